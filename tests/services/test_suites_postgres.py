"""What the store and the cache are held to, once more with the catalog in PostgreSQL: the tests
themselves are those of a catalog in a file."""

import pytest

from tests.services.servers import catalog_on_a_server  # noqa: F401  of every workspace here
from tests.sizes import contract, repeated
from tests.steps.test_cache import *  # noqa: F403
from tests.store.conftest import fault, folder, lab, papers, reopen, table  # noqa: F401  fixtures of those tests
from tests.store.test_publish import *  # noqa: F403
from tests.store.test_recovery import *  # noqa: F403

del test_a_log_that_fails_while_rows_are_made_is_told_before_any_file_has_its_name  # noqa: F821  a server keeps its own
del test_no_file_of_a_table_has_its_name_before_the_row_is_durable  # noqa: F821  the same

pytestmark = [contract, repeated, pytest.mark.services, pytest.mark.slow]
