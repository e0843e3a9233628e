"""A model as a plug-in: added to an existing application, and removed from it again.

`install` and `uninstall` work out a `Plan`; nothing is written before its `apply`.  Added are the
model and its tokenizer, rank profiles as files of their own, two fields at the end of a document
block (the only edit of an existing file), and a record of all that
(`ranker.artifacts.installation`).
"""

from ranker.package.into.addition import NAME, install
from ranker.package.into.plan import Plan
from ranker.package.into.removal import uninstall

__all__ = ["NAME", "Plan", "install", "uninstall"]
