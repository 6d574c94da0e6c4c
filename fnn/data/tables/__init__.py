"""Tables with numbers, categories, dates and gaps: as arrays for a network, the same way for any frame.

- `frames`: The columns of a frame of pandas or polars as arrays of NumPy, gaps marked
- `columns`: What is known of each column from the training rows, and how it becomes numbers
- `targets`: What a network is to predict: numbers in their own units, or classes
- `files`: What is known of a table in a file: whole or absent, with a check sum
- `units`: Metrics in the units of the frame
- `shown`: A table as text and as HTML: one line per column, what it is, and what is known of it
- `table`: All of it together: fitted once, applied to any frame, kept in a file
- `folds`: A table in each fold of a cross-validation
- `network`: The usual network of a table
"""

from fnn.data.tables.network import network_for as network_for
from fnn.data.tables.table import Table as Table
