"""The fake networks and records of the tests of synthesis, here too."""

from synthesis.conftest import decode, make_network, make_record, phi, psi

__all__ = ['decode', 'make_network', 'make_record', 'phi', 'psi']
