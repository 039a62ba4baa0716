"""A job for a test to kill: says which film it is at, and takes its time."""

import sys
import time

import toy_films

from talkinghead_jax.protocols import job

COUNT = 60


def film(number):
    print(number, flush=True)
    time.sleep(0.01)
    return toy_films.film(number)


if __name__ == '__main__':
    toy_films.shorten_moments()
    job.run(sys.argv[1], toy_films.plan(COUNT, film), toy_films.judges(toy_films.Levels(), toy_films.Sums()),
            snapshot_seconds=0)
