"""Other formats to NWB."""

from nwbrecon.converters.sensorium import Imported, import_sensorium

__all__ = ["Imported", "import_sensorium"]
