"""Live: what every agent of a server last said and has seen since attach, as a page at / and as JSON for programs."""

from .exporter import LiveExporter
from .state import PATH

__all__ = ["PATH", "LiveExporter"]
