"""Tables with numbers, categories, dates and gaps: as arrays for a network, the same way for any frame.

- `frames`: The columns of a frame of pandas or polars as arrays of NumPy, gaps marked
- `columns`: What is known of each column from the training rows, and how it becomes numbers
- `targets`: What a network is to predict: numbers in their own units, or classes
- `table`: All of it together: fitted once, applied to any frame, kept in a file
"""

from fnn.data.tables.table import Table as Table
