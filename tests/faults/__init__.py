"""The proof that no call is lost: real processes, a real etcd, and what is done to them.

`python -m tests.faults all` runs every scenario and prints its figures; the tests here run the
same scenarios, smaller.
"""
