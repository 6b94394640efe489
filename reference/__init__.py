"""A deployment on loopback, to try the scripts and to test them. See docs/reference.md.

from reference import running

with running(engine="sim", max_queue_size=2) as deployment:
    print(deployment.url, deployment.api_key)
"""

from .deployment import Deployment, running
from .process import StartError

__all__ = ["Deployment", "StartError", "running"]
