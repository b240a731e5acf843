import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecner.errors import ModelError
from ecner.model.manifest import MANIFEST, identity, verify, write_manifest

FILES = {"config.json": b'{"a": 1}\n', "weights": bytes(range(256)), "empty": b""}


def folder_of(path, files=FILES):
    path.mkdir()
    for name, content in files.items():
        (path / name).write_bytes(content)
    return path


def test_the_identity_is_that_of_names_and_contents(tmp_path):
    one, same = (write_manifest(folder_of(tmp_path / name)) for name in ("one", "same"))
    other = write_manifest(folder_of(tmp_path / "other", {**FILES, "empty": b"x"}))
    renamed = write_manifest(
        folder_of(tmp_path / "renamed", {"void" if n == "empty" else n: c for n, c in FILES.items()})
    )
    assert one == same == identity(tmp_path / "one")
    assert len({one, other, renamed}) == 3


def test_a_folder_as_it_was_written_passes(tmp_path):
    folder = folder_of(tmp_path / "model")
    assert identity(folder) is None
    verify(folder)
    write_manifest(folder)
    verify(folder)


@given(data=st.data())
def test_a_flipped_bit_anywhere_is_refused(tmp_path_factory, data):
    folder = folder_of(tmp_path_factory.mktemp("manifest") / "model")
    write_manifest(folder)
    path = folder / data.draw(st.sampled_from([*(n for n, c in FILES.items() if c), MANIFEST]))
    content = bytearray(path.read_bytes())
    content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(content)
    with pytest.raises(ModelError, match="put back the whole folder"):
        verify(folder)


def test_files_that_are_missing_or_too_many_are_named(tmp_path):
    folder = folder_of(tmp_path / "model")
    write_manifest(folder)
    (folder / "empty").unlink()
    (folder / "stranger").write_bytes(b"")
    with pytest.raises(ModelError, match=r"missing: empty; not of it: stranger"):
        verify(folder)
