from __future__ import annotations

import numpy as np
import pytest

from covermap.errors import OutputError
from covermap.mapping.journal import CLASSES, FORMAT, Record, job_folder, open_journal

JOB = {"format": FORMAT, "bundle": "abc", "settings": {"tile": 64, "margin": 8}}


@pytest.fixture
def target(tmp_path):
    return tmp_path / "map.tif"


@pytest.fixture
def blocks():
    rng = np.random.default_rng(0)
    return {i: rng.integers(0, 9, (3 + i, 4)).astype(np.uint8) for i in range(4)}


def fill(journal, blocks):
    for number, array in blocks.items():
        journal.write(number, CLASSES, array)
        journal.finish(Record(number, "done"))


def test_remembers_blocks(target, blocks):
    with open_journal(target, JOB, restart=False) as journal:
        assert not journal.resumed
        fill(journal, blocks)
        journal.finish(Record(7, "empty"))
        journal.finish(Record(8, "masked", "unreadable"))
    with open_journal(target, JOB, restart=False) as journal:
        assert journal.resumed
        assert journal.records[8] == Record(8, "masked", "unreadable")
        # a block that could not be read is tried again
        assert journal.verify(()) == {0, 1, 2, 3, 7}
        for number, array in blocks.items():
            np.testing.assert_array_equal(journal.read(number, CLASSES), array)


def test_layers_are_needed_too(target, blocks):
    with open_journal(target, JOB, restart=False) as journal:
        fill(journal, blocks)
        journal.write(2, "entropy", np.zeros((1, 2, 2), np.uint8))
        assert journal.verify(("entropy",)) == {2}


def test_any_damage_means_the_block_again(target, blocks):
    with open_journal(target, JOB, restart=False) as journal:
        fill(journal, blocks)
        path = next(journal.folder.rglob("000000002.classes"))
    whole = path.read_bytes()
    rng = np.random.default_rng(1)
    for _ in range(30):
        broken = bytearray(whole)
        broken[rng.integers(len(whole))] ^= 1 << rng.integers(8)
        for content in (bytes(broken), whole[: rng.integers(len(whole))], b""):
            path.write_bytes(content)
            with open_journal(target, JOB, restart=False) as journal:
                assert journal.verify(()) == {0, 1, 3}
    path.unlink()
    with open_journal(target, JOB, restart=False) as journal:
        assert journal.verify(()) == {0, 1, 3}


def test_block_of_another_place_or_job_is_not_taken(target, blocks, tmp_path):
    with open_journal(target, JOB, restart=False) as journal:
        fill(journal, blocks)
        path = next(journal.folder.rglob("000000002.classes"))
        path.write_bytes(next(journal.folder.rglob("000000001.classes")).read_bytes())
        assert journal.verify(()) == {0, 1, 3}
    with open_journal(tmp_path / "other.tif", JOB | {"bundle": "b"}, restart=False) as other:
        fill(other, blocks)
        path.write_bytes(next(other.folder.rglob("000000002.classes")).read_bytes())
    with open_journal(target, JOB, restart=False) as journal:
        assert journal.verify(()) == {0, 1, 3}


def test_line_cut_short_costs_one_block_only(target, blocks):
    with open_journal(target, JOB, restart=False) as journal:
        fill(journal, blocks)
    lines = job_folder(target) / "blocks.jsonl"
    lines.write_text(lines.read_text()[:-9])
    with open_journal(target, JOB, restart=False) as journal:
        assert journal.verify(()) == {0, 1, 2}
        journal.finish(Record(5, "empty"))
    with open_journal(target, JOB, restart=False) as journal:
        assert journal.verify(()) == {0, 1, 2, 5}


def test_another_job_is_refused_with_what_differs(target, blocks):
    with open_journal(target, JOB, restart=False) as journal:
        fill(journal, blocks)
    other = JOB | {"settings": {"tile": 128, "margin": 8}}
    with (
        pytest.raises(OutputError, match=r"settings\.tile was 64, now 128\. .*overwrite") as error,
        open_journal(target, other, restart=False),
    ):
        pass
    assert "margin" not in str(error.value)
    with open_journal(target, JOB, restart=False) as journal:
        assert len(journal.records) == 4  # refusing left it as it was
    with open_journal(target, other, restart=True) as journal:
        assert not journal.records
        assert not list(journal.folder.rglob("*.classes"))


def test_batch_is_kept_but_not_compared(target):
    with open_journal(target, JOB, restart=False) as journal:
        journal.set_batch(4)
    with open_journal(target, JOB | {"batch": 9}, restart=False) as journal:
        assert journal.job["batch"] == 4


def test_two_runs_exclude_each_other(target):
    with (
        open_journal(target, JOB, restart=False),
        pytest.raises(OutputError, match="being run by process"),
        open_journal(target, JOB, restart=True),
    ):
        pass


def test_discard_leaves_nothing(target, blocks, tmp_path):
    with open_journal(target, JOB, restart=False) as journal:
        fill(journal, blocks)
        journal.discard()
    assert not list(tmp_path.iterdir())


def test_unreadable_job_file_means_a_new_start(target, blocks):
    with open_journal(target, JOB, restart=False) as journal:
        fill(journal, blocks)
    (job_folder(target) / "job.json").write_text("{")
    with open_journal(target, JOB, restart=False) as journal:
        assert not journal.resumed
        assert not journal.records


def test_unwritable_folder_is_an_error_that_teaches(tmp_path):
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(OutputError, match="cannot be written"),
        open_journal(tmp_path / "file" / "map.tif", JOB, restart=False),
    ):
        pass
