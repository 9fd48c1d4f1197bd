"""Runs a task bundle over new studies: NIfTI and DICOM in, label maps and DICOM SEG out."""
