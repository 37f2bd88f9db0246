"""Rows as training reads them: shuffled without a buffer, resumable at any row, arrays without Python lists."""

from .arrow_rows import ArrowRows
from .parquet_rows import ParquetRows
from .resumable_loader import ResumableLoader
from .row_order import row_order
from .size_batches import SizeBatches, size_batches
from .table_batches import TableBatches
from .unified_batch_collator import MODALITIES, UnifiedBatchCollator


__all__ = [
    "MODALITIES",
    "ArrowRows",
    "ParquetRows",
    "ResumableLoader",
    "SizeBatches",
    "TableBatches",
    "UnifiedBatchCollator",
    "row_order",
    "size_batches",
]
