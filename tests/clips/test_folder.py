"""What a folder holds is found, and a folder that cannot be searched is named."""

import pytest

from divid_diffusers.clips import folder


def test_a_folder_that_cannot_be_read_is_named(tmp_path, closed_folders):
    with pytest.raises(OSError, match="Cannot read the folder .*Permission denied.*change its permissions"):
        folder.list_files(tmp_path)
