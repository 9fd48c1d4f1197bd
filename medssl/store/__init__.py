"""The Store: volumes as arrays read crop by crop, their manifest, and the ledger of input files."""

from medssl.store.reader import Store, Volume
from medssl.store.records import PAGE_NAME, LedgerRow, Outcome, StoreInfo, VolumeRecord
from medssl.store.writer import StoreWriter

__all__ = [
    "PAGE_NAME",
    "LedgerRow",
    "Outcome",
    "Store",
    "StoreInfo",
    "StoreWriter",
    "Volume",
    "VolumeRecord",
]
