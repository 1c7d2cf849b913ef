"""The Dockerfile frontend: a Dockerfile and the arguments of a build in, a ``plan.Plan`` out; pure but for what ``Resolve`` does.

``parse`` reads a file, ``plan`` decides a build, ``lint`` finds what Docker's rules find, and a plan carries it. The language itself (lines,
words, instructions, what they do to a configuration) is ``spec.dockerfile``, ``.dockerignore`` is ``spec.docker.ignorefile``
(here as ``ignore``): the command line and ``commit --change`` use these too.
"""

from boxship.build.dockerfile.options import Base, PlanOptions, Resolve
from boxship.build.dockerfile.parameters import outline, targets
from boxship.build.dockerfile.planner import plan
from boxship.spec.docker import ignorefile as ignore
from boxship.spec.dockerfile.errors import DockerfileError
from boxship.spec.dockerfile.instructions import File
from boxship.spec.dockerfile.parse import parse

__all__ = ["Base", "DockerfileError", "File", "PlanOptions", "Resolve", "ignore", "outline", "parse", "plan", "targets"]
