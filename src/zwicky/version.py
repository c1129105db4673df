"""The version of Zwicky, read by the build and written into every artefact."""

__version__ = "0.2.0.dev0"
