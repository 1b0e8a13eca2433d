"""What can go wrong with the machine. User mistakes in YAML are Diagnostics, not errors.

MeshError               one clear line for whoever started the mesh
  CommandError          a command of the machine (ip, nft) failed
  LaunchError           a container could not be started
"""


class MeshError(Exception):
    """Something that the mesh needs of this machine is not there. The message is one line for the user."""


class CommandError(MeshError):
    """A command failed; the message holds its last words."""


class LaunchError(MeshError):
    """A container's command could not be started."""
