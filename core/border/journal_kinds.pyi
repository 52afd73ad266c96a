from collections.abc import Mapping

JOURNAL_KINDS: Mapping[int, str]
