"""The Store: volumes as arrays read crop by crop, their manifest, and the ledger of input files."""

from medssl.store.reader import Store, Volume
from medssl.store.records import LedgerRow, Outcome, StoreInfo, VolumeRecord
from medssl.store.writer import StoreWriter

__all__ = [
    "LedgerRow",
    "Outcome",
    "Store",
    "StoreInfo",
    "StoreWriter",
    "Volume",
    "VolumeRecord",
]
