"""Ingest: from a folder of DICOM, NIfTI, PNG or .npz to a store, every file accounted for."""
