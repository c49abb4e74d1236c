"""What a manifest tells of two files."""

from jammi_lab.core.manifest import Leaf, equal_row_groups


def test_equal_row_groups_end_at_the_first_that_differs():
    def leaves(*digests):
        return [
            Leaf(column=column, row_group=group, offset=group * 7, length=7, digest=digest)
            for group, pair in enumerate(digests)
            for column, digest in zip("ab", pair, strict=True)
        ]

    old, new = leaves("11", "22", "33"), leaves("11", "22", "34", "44")
    assert equal_row_groups(new, old, "ab") == 2
    assert equal_row_groups(new, old, "a") == 3
    assert equal_row_groups(new, new, "ab") == 4
