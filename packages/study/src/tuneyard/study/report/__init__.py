"""The report of a study: what was asked, what came out, and how sure one may be of it."""
