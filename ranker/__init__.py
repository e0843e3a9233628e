"""ranker: from judged queries to a deployed, evaluated Vespa cross-encoder.

Importing this package loads neither torch nor pyvespa: each module that needs a heavy library
loads it when it is used.
"""

from ranker.contract.spec import TokenSpec
from ranker.errors import RankerError
from ranker.records import Document, Qrel, Query

__all__ = ["Document", "Qrel", "Query", "RankerError", "TokenSpec", "__version__"]

__version__ = "0.1.0"
