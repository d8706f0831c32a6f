"""The commands of ``sb3-mdpo``, one file each."""
