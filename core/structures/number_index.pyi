"""Numbers that lie close together -> pointers, as far as tests need it."""

class Numbers:
    """Numbers -> integers above 0."""

    def put(self, number: int, value: int) -> bool:
        """False when the number is too far from the others."""

    def get(self, number: int) -> int:
        """0 where nothing was put."""

    def values(self) -> list[int]:
        """In the order of their numbers."""

    def clear(self) -> None: ...
