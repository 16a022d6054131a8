"""A real Kubernetes on a bare Debian machine, for demos and tests.

Everything lives in one network namespace without an uplink: nothing that the cluster or a load test sends can leave the
machine. Standard library only, so that it runs before anything is installed.
"""
