"""What the demo's networks make of real people: three clips, each with another clip's speech.

    python -m benchmarks.real_clips --workdir=demo --landmarker=FILE --data=../shared/data [--finetune_steps=400]

For each clip: minutes of fine-tuning, share of generated frames (upscaled to 256 px) in which MediaPipe finds a
face, and, as `launch.py` prints them, SSIM and PSNR on the clip's held-out frames beside the matched reference's.
Videos go to WORKDIR/real/.
"""

import argparse
import pathlib
import subprocess
import sys
import time

from input_pipeline import face_tracking, media

PAIRS = {  # source clip -> where the speech comes from
    'voxceleb2/00098.mp4': 'studio/face_2.mp4',
    'hdtf/WDA_AlexandriaOcasioCortez_000.mp4': 'voxceleb2/00373.mp4',
    'styletalk/Obama_clip1.mp4': 'voxceleb2/00086.mp4',
}


def detection_rate(video: pathlib.Path, landmarker: str) -> float:
    """Share of the frames of `video` in which a face is found."""
    with face_tracking.MediaPipeDetector(landmarker) as detector:
        return float(detector.detect(media.Video(video)).detected.mean())


def main() -> None:
    """Generate and measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--workdir', default='demo', type=pathlib.Path)
    parser.add_argument('--landmarker', required=True)
    parser.add_argument('--data', default='../shared/data', type=pathlib.Path)
    parser.add_argument('--finetune_steps', default=400, type=int)
    arguments = parser.parse_args()
    folder = arguments.workdir / 'real'
    folder.mkdir(parents=True, exist_ok=True)
    for source, speech in PAIRS.items():
        for steps in dict.fromkeys([0, arguments.finetune_steps]):
            output = folder / f'{pathlib.Path(source).stem}_{steps}.mp4'
            start = time.monotonic()
            result = subprocess.run(
                [sys.executable, 'launch.py', '--config=configs/demo.py', f'--workdir={arguments.workdir}',
                 '--mode=generate', f'--source={arguments.data / "clips" / source}',
                 f'--audio={arguments.data / "clips" / speech}', f'--output={output}', f'--finetune_steps={steps}',
                 f'--landmarker={arguments.landmarker}'], check=True, stdout=subprocess.PIPE, text=True)
            frames = sum(1 for _ in media.Video(output))
            wanted = -(-len(media.audio_for(arguments.data / 'clips' / speech)) // 640)
            print(f'{source}: {steps} steps, {(time.monotonic() - start) / 60:.1f} min, {frames} frames '
                  f'(speech has {wanted}), face found in {detection_rate(output, arguments.landmarker):.1%}')
            print(result.stdout, flush=True)


if __name__ == '__main__':
    main()
