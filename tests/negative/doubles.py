"""Mistakes of existing systems, made on purpose: what each changes in our source, and the test it must turn red.

A double is a set of edits of source text, made in memory while a module is imported, in the test's process and
in the workers it starts (they inherit `PYTHONPATH`, and with it `site/sitecustomize.py`, and the variable
`UNLEARN_NEGATIVE_CONTROL`). Nothing is written: the files, and so all digests of code, stay as they are.

Only the standard library is imported here, and no code of ours: this runs before anything else does.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from types import CodeType, ModuleType

VARIABLE = "UNLEARN_NEGATIVE_CONTROL"
"""Names the double to apply; unset, nothing happens."""

MARKS = "UNLEARN_NEGATIVE_CONTROL_MARKS"
"""Path of a file to which each process adds a line for every module it changed."""

ASSERTION = r"^(AssertionError|assert |Failed: DID NOT RAISE)"
"""How pytest's report of a failed expectation begins."""


@dataclass(frozen=True)
class Edit:
    """Replace a piece of a module's source, which must occur exactly once."""

    module: str
    old: str
    new: str


@dataclass(frozen=True)
class Control:
    """One mistake.

    Attributes:
        name: Short name.
        mistake: What goes wrong, in words.
        edits: How to make it.
        test: Node id of the test that must notice.
        red: What the failure's message must match: an assertion, or an error of the project's own.
        in_worker: Whether the mistake is made in worker processes rather than in the driver.
    """

    name: str
    mistake: str
    edits: tuple[Edit, ...]
    test: str
    red: str = ASSERTION
    in_worker: bool = False

    def __str__(self) -> str:
        return self.name


MISTAKES = "tests/unlearn/test_mistakes.py"
SUMS = "tests/unlearn/test_sums.py"
PURITY = "tests/unlearn/test_purity.py"
RECIPE = "tests/shards/test_recipe.py"
TORCH = "tests/shards/learners/test_torch.py"
FORGOTTEN = "tests/unlearn/test_forgotten.py"
INPUT = "tests/unlearn/test_bad_input.py"
SUBMISSION = "tests/unlearn/test_submission.py"
TAMPERING = "tests/unlearn/test_tampering.py"

_RECORDED = "            site.ledger.record_step(_built(header, step.visits, step.seconds))\n"
_WITHDRAWN = '        chain.append(\n            c,\n            "withdrawn",\n'

_KEYS = (
    Control(
        "tail-not-in-key",
        "The last record of a slice is trained on but not digested.",
        (
            Edit(
                "shards.slicefile",
                "row.tobytes() for row in commitments)",
                "row.tobytes() for row in commitments[:-1])",
            ),
        ),
        f"{MISTAKES}::test_every_record_of_a_slice_is_in_its_digest[7]",
    ),
    Control(
        "records-not-in-key",
        "A step's key does not say which records it visits.",
        (Edit("shards.recipe", '        "slices": slices,\n', ""),),
        f"{RECIPE}::test_every_input_is_in_the_key",
    ),
    Control(
        "newest-slice-not-in-key",
        "A step's key covers the slices before its own only.",
        (
            Edit("shards.recipe", "        visits = budget(", "        before, visits = steps and visited, budget("),
            Edit(
                "shards.recipe",
                "_inputs(constants, shard, position, parent, visited, visits)",
                "_inputs(constants, shard, position, parent, str(position), visits)",
            ),
        ),
        f"{RECIPE}::test_every_input_is_in_the_key",
    ),
    Control(
        "hyperparameters-not-in-key",
        "The key names the learner but not its parameters.",
        (Edit("shards.recipe", '"learner": constants.learner,', '"learner": constants.learner["class"],'),),
        f"{RECIPE}::test_every_input_is_in_the_key",
    ),
    Control(
        "seed-not-in-key",
        "The key leaves the root seed out.",
        (Edit("shards.recipe", '        "root_seed": constants.root_seed,\n', ""),),
        f"{RECIPE}::test_every_input_is_in_the_key",
    ),
    Control(
        "code-not-in-key",
        "The key leaves the user's code out.",
        (Edit("shards.recipe", '        "code": constants.code,\n', ""),),
        f"{RECIPE}::test_every_input_is_in_the_key",
    ),
    Control(
        "environment-not-in-key",
        "The key leaves the numeric environment out.",
        (Edit("shards.recipe", '{**inputs, "environment": environment}', "inputs"),),
        f"{RECIPE}::test_every_input_is_in_the_key",
    ),
    Control(
        "budget-not-in-key",
        "The key leaves the number of visits out.",
        (Edit("shards.recipe", '        "visits": visits,\n', ""),),
        f"{RECIPE}::test_the_budget_is_in_the_key",
    ),
    Control(
        "ids-only",
        "A record is committed to by its id, whatever it holds.",
        (
            Edit(
                "shards.slicefile",
                'b"".join((head, _prefixed(record_id), _prefixed(subject), numbers, tail))',
                "_prefixed(record_id)",
            ),
        ),
        "tests/shards/test_slicefile.py::test_every_part_of_a_record_is_committed_to",
    ),
    Control(
        "imports-not-in-code",
        "The digest of code covers the file that is named, not what it imports.",
        (Edit("shards.code", "pending.extend(imports - seen)", "pass"),),
        "tests/shards/test_code.py::test_editing_changes_the_digest_exactly_if_the_module_is_reached[proj/layers.py]",
    ),
)

_TRAINING = (
    Control(
        "unseeded-initialisation",
        "Weights start from whatever the generator holds.",
        (Edit("shards.learners.torch", 'seed_generators(context.seed("module"))', "torch.seed()"),),
        f"{TORCH}::test_sgd_with_momentum_and_cosine_equals_a_loop_by_hand",
    ),
    Control(
        "optimizer-in-memory",
        "The optimiser's moments live on in the process, across steps and shards.",
        (
            Edit(
                "shards.learners.torch",
                '            seed_generators(context.seed("train"))\n',
                '            seed_generators(context.seed("train"))\n'
                "            memory = globals().setdefault('_memory', [])\n"
                "            for parameter, kept in zip(module.parameters(), memory):\n"
                "                optimizer.state[parameter] = kept\n"
                "            memory[:] = [optimizer.state[parameter] for parameter in module.parameters()]\n",
            ),
        ),
        f"{TORCH}::test_a_step_is_a_pure_function[shards.learners.modules:mlp]",
    ),
    Control(
        "zero-visits",
        "The budget of a small slice is rounded down, to nothing.",
        (Edit("shards.learners.base", "return math.ceil(", "return math.floor("),),
        f"{MISTAKES}::test_the_smallest_step_makes_a_visit[1/100]",
    ),
    Control(
        "empty-minibatch",
        "A window without records is trained on; the mean over nothing is not a number.",
        (
            Edit(
                "shards.learners.visits",
                "        yield pieces[0] if len(pieces) == 1 else np.concatenate(pieces)\n",
                "        yield pieces[0] if len(pieces) == 1 else np.concatenate(pieces)\n"
                "    yield np.empty(0, dtype=np.int64)\n",
            ),
        ),
        f"{MISTAKES}::test_no_minibatch_is_empty",
    ),
    Control(
        "void-step",
        "A step over no records at all is trained.",
        (Edit("shards.recipe", "if records == 0:", "if False:"),),
        f"{RECIPE}::test_a_step_without_records_is_void_and_an_empty_slice_after_records_is_not",
    ),
    Control(
        "users-switches",
        "Workers inherit the user's numeric switches.",
        (
            Edit("shards.environment", " if not name.startswith(_NUMERIC_PREFIXES)}\n    threads", "}\n    threads"),
            Edit("shards.environment", 'kept.update({f"{family}_NUM_THREADS": "1" for family in threads})', "pass"),
        ),
        "tests/shards/test_environment.py::test_numeric_switches_of_the_user_are_replaced_and_the_rest_is_kept",
    ),
    Control(
        "users-threads",
        "Workers compute on as many threads as the user's shell says.",
        (
            Edit("shards.environment", " if not name.startswith(_NUMERIC_PREFIXES)}\n    threads", "}\n    threads"),
            Edit("shards.environment", 'kept.update({f"{family}_NUM_THREADS": "1" for family in threads})', "pass"),
            Edit("shards.executors.worker", "    torch.set_num_threads(1)\n", ""),
        ),
        f"{MISTAKES}::test_workers_compute_on_one_thread_whatever_the_user_set",
    ),
    Control(
        "global-preprocessing",
        "Features are centred on the mean of all shards.",
        (
            Edit(
                "shards.train",
                "        data = records.up_to(step.position)\n",
                "        data = records.up_to(step.position)\n"
                "        files = sorted(folder.path.parent.glob('*/records/*.arrow'))\n"
                "        everyone = np.concatenate([slicefile.read(path).features['x'] for path in files])\n"
                "        centred = {'x': (data.features['x'] - everyone.mean(axis=0)).astype(everyone.dtype)}\n"
                "        data = StepData(centred, data.target, data.tokens)\n",
            ),
        ),
        "tests/unlearn/test_isolation.py::test_a_shard_trains_alike_when_nothing_else_is_there[sklearn-sgd-0]",
        in_worker=True,
    ),
    Control(
        "neighbours-files",
        "A worker opens its neighbours' files, even if it makes nothing of them.",
        (
            Edit(
                "shards.train",
                "        data = records.up_to(step.position)\n",
                "        data = records.up_to(step.position)\n"
                "        for path in folder.path.parent.glob('*/records/*.arrow'):\n"
                "            path.read_bytes()\n",
            ),
        ),
        "tests/unlearn/test_isolation.py::test_a_worker_touches_its_own_folder_only[sklearn-sgd]",
        in_worker=True,
    ),
    Control(
        "budget-looks-ahead",
        "The budget of a step depends on how many slices there will be.",
        (
            Edit(
                "shards.recipe",
                "budget(piece.records, records, constants.n_slices)",
                "budget(piece.records, records, len(slices))",
            ),
        ),
        f"{RECIPE}::test_later_slices_change_no_earlier_key",
    ),
    Control(
        "seed-looks-ahead",
        "The seed of a step depends on how many slices there are.",
        (
            Edit(
                "shards.train",
                "StepContext(task, order.root_seed, ",
                "StepContext(task, order.root_seed + len(order.slices), ",
            ),
        ),
        f"{PURITY}::test_when_training_happened_changes_nothing[sklearn-sgd]",
        in_worker=True,
    ),
    Control(
        "data-look-ahead",
        "A step is given the records of all slices, later ones included.",
        (Edit("shards.train", "while self._next <= position:", "while self._next < len(self._slices):"),),
        f"{PURITY}::test_the_first_slices_alone_give_the_bytes_they_give_in_a_longer_chain[sklearn-sgd-0]",
        in_worker=True,
    ),
    Control(
        "stale-worker",
        "A warm worker keeps the code it imported, though the user has edited it since.",
        (
            Edit(
                "shards.executors.process",
                "return program, tuple(sys.path if",
                'return Program(program.libraries, ""), tuple(sys.path if',
            ),
        ),
        f"{MISTAKES}::test_edited_code_runs_in_workers_that_were_warm",
    ),
)

_SUMS = (
    Control(
        "solved-model-kept",
        "The model solved from the shards' sums is kept in memory after something was forgotten.",
        (Edit("unlearn.serving", "self._whole = self._together = None", "self._together = None"),),
        f"{SUMS}::test_what_another_process_forgets_is_in_no_model_kept_in_memory",
    ),
    Control(
        "joined-states-kept",
        "The states of withdrawn shards are kept in memory, joined with those that serve.",
        (Edit("unlearn.serving", "self._whole = self._together = None", "self._whole = None"),),
        "tests/unlearn/test_serving_joined.py::test_nothing_of_a_forgotten_state_stays_in_memory",
    ),
    Control(
        "merged-state-kept",
        "What is merged in memory still holds the states of shards that were withdrawn.",
        (Edit("unlearn.serving", "self._merged = learner.without(together, gone)", "self._merged = together"),),
        f"{SUMS}::test_what_is_taken_out_of_the_sums_in_memory_leaves_those_of_a_fresh_sum",
    ),
    Control(
        "ties-by-order",
        "Of records that are equally far away, those that were stored first are the nearest.",
        (
            Edit(
                "shards.learners.neighbours",
                "shares = places / tied.sum(axis=1, keepdims=True)",
                "shares, tied = np.ones_like(places), tied * (tied.cumsum(axis=1) <= places)",
            ),
        ),
        f"{SUMS}::test_records_equally_far_away_share_a_place_whichever_was_stored_first",
    ),
    Control(
        "features-by-batch",
        "A frozen module sees all records at once, and rounds as suits their number.",
        (
            Edit(
                "shards.learners.frozen",
                "            for at in range(len(records)):\n",
                "            found[:] = module(torch.from_numpy(records)).numpy()\n            for at in range(0):\n",
            ),
        ),
        "tests/shards/learners/test_frozen.py::test_a_record_has_the_same_features_whatever_stands_beside_it",
    ),
    Control(
        "sums-counted-twice",
        "A step adds the sums of all its records to those of its parent.",
        (Edit("shards.learners.merging", "seen = 0 if parent is None else int(parent[RECORDS])", "seen = 0"),),
        f"{SUMS}::test_the_model_is_that_of_all_records_however_they_are_placed",
        in_worker=True,
    ),
)

_PLACEMENT = (
    Control(
        "placement-by-row",
        "A record's shard depends on its row number.",
        (
            Edit(
                "shards.placement",
                'keyed_tokens(key, "placement", subjects)',
                'keyed_tokens(key, "placement", [str(row) for row in range(len(subjects))])',
            ),
        ),
        "tests/shards/test_placement.py::test_records_of_one_subject_share_shard_and_slice",
    ),
    Control(
        "order-by-row",
        "Within a slice, records are ordered by when they came.",
        (
            Edit(
                "shards.placement",
                'keyed_tokens(key, "order", record_ids)',
                "np.array([list(row.to_bytes(16)) for row in range(len(record_ids))], dtype=np.uint8).reshape(-1, 16)",
            ),
        ),
        f"{MISTAKES}::test_the_order_in_which_records_came_changes_nothing",
    ),
    Control(
        "order-not-canonical",
        "The rows of a slice are left in the order they came in.",
        (
            Edit(
                "shards.placement",
                "np.lexsort((words[:, 1], words[:, 0], placement.slices",
                "np.lexsort((placement.slices",
            ),
        ),
        "tests/shards/test_placement.py::test_groups_partition_the_rows_in_order_of_token",
    ),
)

_CRASHES = (
    Control(
        "step-twice-in-worker",
        "After a worker's death, the last step that was built is trained again, on top of itself.",
        (Edit("shards.train", '"steps": self.steps[done:]', '"steps": self.steps[max(done - 1, 0) :]'),),
        "tests/shards/executors/test_local.py::test_a_worker_that_dies_is_replaced_and_the_result_is_the_same",
    ),
    Control(
        "step-twice",
        "Going on with a chain, the last step that was built is trained again, on top of itself.",
        (
            Edit("unlearn.building", "return self.steps[index:]", "return self.steps[max(index - 1, 0) :]"),
            Edit("unlearn.building", "parent=steps[0].parent,", "parent=steps[0].key if steps[0].built else None,"),
        ),
        f"{MISTAKES}::test_requests_add_up",
    ),
    Control(
        "digests-not-checked",
        "A file that exists is taken for complete.",
        (
            Edit("shards.store", "if digest_arrays(arrays) != header.payload:", "if False:"),
            Edit(
                "shards.store",
                'if fields.pop("check") != digest_json("checkpoint", fields["header"]):',
                'if not fields.pop("check"):',
            ),
        ),
        "tests/shards/test_store.py::test_every_flipped_byte_is_noticed",
    ),
    Control(
        "record-digests-not-checked",
        "A record file is trained on without a look at its digest.",
        (Edit("shards.train", "or slicefile.slice_digest(slicefile.commitments(data)) != piece.digest", "or False"),),
        f"{MISTAKES}::test_a_record_that_was_changed_on_disk_is_not_trained_on",
        in_worker=True,
    ),
    Control(
        "written-in-place",
        "A checkpoint is written under its final name.",
        (
            Edit(
                "shards.store_local", "path = self.staging / secrets.token_hex(8)", "path = self.checkpoint(header.key)"
            ),
        ),
        "tests/shards/test_store.py::test_what_is_published_is_read_back",
    ),
    Control(
        "renamed-before-synced",
        "A checkpoint gets its name before its bytes are on disk.",
        (Edit("shards.store_local", "            os.fsync(file.fileno())\n", ""),),
        f"{MISTAKES}::test_a_checkpoint_is_on_disk_before_it_has_a_name",
    ),
    Control(
        "name-not-synced",
        "A checkpoint's name is not on disk when it is recorded.",
        (Edit("shards.store_local", "        self.sync_checkpoints()\n", ""),),
        f"{MISTAKES}::test_a_checkpoint_is_on_disk_before_it_has_a_name",
    ),
    Control(
        "staging-left-over",
        "Unfinished files stay behind.",
        (Edit("shards.store_local", "purge_files(list(self.staging.iterdir()), self.staging)", "pass"),),
        f"{MISTAKES}::test_staged_files_do_not_outlive_a_training_that_failed",
    ),
    Control(
        "orphans-not-awaited",
        "Staging is emptied while a worker whose driver died still writes to it.",
        (
            Edit(
                "shards.store_local",
                "        with exclusive(self.busy, patience):\n",
                "        if patience:\n",
            ),
        ),
        f"{MISTAKES}::test_staged_files_of_a_worker_still_at_work_do_not_survive",
    ),
    Control(
        "orphans-adopted",
        "Whatever a crashed training published is adopted, also what was trained on since-forgotten data.",
        (
            Edit(
                "unlearn.building",
                "if step.built and header is not None and header.key == step.key:",
                "if header is not None:",
            ),
        ),
        f"{MISTAKES}::test_a_published_file_that_no_recipe_asks_for_is_not_adopted",
    ),
    Control(
        "destroyed-before-durable",
        "Files go before the request is on disk: a crash in between loses both.",
        (
            Edit(
                "unlearn.workspace",
                "            site.ledger.withdraw([withdrawal])\n",
                "            for item in withdrawal.gone:\n"
                "                site.folder(item.shard).purge(site.folder(item.shard).keys())\n"
                "            site.ledger.withdraw([withdrawal])\n",
            ),
        ),
        f"{MISTAKES}::test_nothing_is_destroyed_before_the_request_is_durable",
    ),
    Control(
        "durable-but-not-finished",
        "After a crash, nobody finishes a request that was on disk.",
        (Edit("unlearn.workspace", "if ledger.operation() or ledger.is_forgetting() or", "if ledger.operation() or"),),
        f"{MISTAKES}::test_a_durable_request_is_finished_by_whoever_opens_the_workspace[rewrite]",
    ),
)

_FORGETTING = (
    Control(
        "checkpoints-not-purged",
        "Checkpoints that saw the records stay on disk.",
        (Edit("unlearn.erasure", "        folder.purge(unnamed)\n", ""),),
        f"{FORGOTTEN}::test_checkpoints_that_hold_records_are_destroyed",
    ),
    Control(
        "rows-not-removed",
        "The records stay in the slice's file.",
        (Edit("unlearn.erasure", "token not in forgotten for token in tokens", "True for token in tokens"),),
        f"{FORGOTTEN}::test_checkpoints_that_hold_records_are_destroyed",
    ),
    Control(
        "old-file-kept",
        "The slice is rewritten, and its old file stays beside it.",
        (Edit("unlearn.erasure", "    folder.purge_records([old])\n", ""),),
        f"{FORGOTTEN}::test_checkpoints_that_hold_records_are_destroyed",
    ),
    Control(
        "state-digest-in-ledger",
        "The ledger keeps digests of states, which outlive the states in its log and its pages.",
        (
            Edit(
                "unlearn.building",
                _RECORDED,
                f"{_RECORDED}            site.ledger.record_environment(header.content, {{}})\n",
            ),
        ),
        f"{MISTAKES}::test_no_page_of_the_database_or_its_log_remembers",
    ),
    Control(
        "state-salt-in-ledger",
        "The ledger keeps the salts of its commitments to states, so that these go on telling.",
        (
            Edit(
                "unlearn.building",
                _RECORDED,
                f"{_RECORDED}            site.ledger.record_environment(header.salt, {{}})\n",
            ),
        ),
        f"{MISTAKES}::test_no_page_of_the_database_or_its_log_remembers",
    ),
    Control(
        "state-salts-not-secret",
        "All states have the same salt.",
        (Edit("shards.store", "return secrets.token_hex(_SALT_BYTES)", 'return "00" * _SALT_BYTES'),),
        "tests/shards/test_store.py::test_a_commitment_is_of_the_state_and_says_nothing_without_its_salt",
    ),
    Control(
        "tainted-step-served",
        "The step of the very slice that held the records is served on.",
        (Edit("unlearn.ledger.ledger", "(s.step.c.position >= position)", "(s.step.c.position > position)"),),
        f"{MISTAKES}::test_what_is_served_after_forgetting_never_saw_the_records",
    ),
    Control(
        "requests-overwrite",
        "A request's tombstones replace those of the one before.",
        (
            Edit(
                "unlearn.ledger.ledger",
                "        for part in _chunks(tokens):\n            c.execute(delete(s.record)",
                "        c.execute(delete(s.tombstone).where(s.tombstone.c.request != request.id))\n"
                "        for part in _chunks(tokens):\n            c.execute(delete(s.record)",
            ),
        ),
        f"{MISTAKES}::test_requests_add_up",
    ),
    Control(
        "requests-start-afresh",
        "A request is applied to the slice as it was first read, which brings back what earlier ones removed.",
        (
            Edit(
                "unlearn.erasure",
                "    commitments = slicefile.commitments(data)\n"
                "    if slicefile.slice_digest(commitments) != item.digest:",
                "    first = globals().setdefault('_first', {})\n"
                "    data = first.setdefault((site.path, item.shard, item.position), data)\n"
                "    commitments = slicefile.commitments(data)\n    if not item.digest:",
            ),
        ),
        f"{MISTAKES}::test_requests_add_up",
    ),
    Control(
        "key-ignored",
        "A request repeated under its idempotency key is taken for a new one.",
        (
            Edit(
                "unlearn.workspace",
                "known = None if idempotency_key is None else site.ledger.request_by_key(idempotency_key)",
                "known = None",
            ),
        ),
        f"{INPUT}::test_an_idempotency_key_names_one_request",
        r"^unlearn\.errors\.AlreadyForgottenError: ",
    ),
    Control(
        "key-not-compared",
        "Another request under a used idempotency key is taken for the old one.",
        (Edit("unlearn.ledger.ledger", "    if known.fingerprint != fingerprint:\n", "    if not fingerprint:\n"),),
        f"{INPUT}::test_an_idempotency_key_names_one_request",
    ),
    Control(
        "resurrection",
        "Ingest does not look at the tombstones.",
        (Edit("unlearn.intake", "if token in dead - lifted", "if False"),),
        f"{MISTAKES}::test_requests_add_up",
    ),
    Control(
        "commitments-not-salted",
        "A commitment is the plain digest of the record: whoever guesses the record can tell.",
        (Edit("shards.slicefile", "sha256(salt + sha256(record).digest())", "sha256(record)"),),
        "tests/shards/test_slicefile.py::test_every_part_of_a_record_is_committed_to",
    ),
    Control(
        "salts-not-secret",
        "All records have the same salt.",
        (Edit("unlearn.intake", "secrets.token_bytes(32 * n)", "bytes(32 * n)"),),
        f"{MISTAKES}::test_keys_and_commitments_cannot_be_computed_from_a_guessed_record",
    ),
    Control(
        "no-lock",
        "Whoever comes writes, also while another process is training.",
        (Edit("shards.lock", "        while not _try_lock(handle):", "        while False:"),),
        f"{INPUT}::test_a_second_writer",
    ),
)

_SERVING = (
    Control(
        "generation-not-checked",
        "A process that serves from memory does not notice what another forgot.",
        (
            Edit(
                "unlearn.serving",
                "ledger.generation() != self._generation:",
                "ledger.generation() and self._generation < 0:",
            ),
            Edit("unlearn.serving", "or self._are_recorded({key for key, _ in members}):", "or True:"),
        ),
        f"{MISTAKES}::test_a_process_that_serves_notices_what_another_forgot",
    ),
    Control(
        "generation-not-checked-again",
        "A prediction that was under way while another process forgot is given out.",
        (Edit("unlearn.serving", "or self._are_recorded({key for key, _ in members}):", "or True:"),),
        f"{MISTAKES}::test_a_prediction_under_way_is_not_given_out_after_forgetting",
    ),
    Control(
        "abstention-is-a-vote",
        "A shard without a state counts as one that says no to every class.",
        (
            Edit(
                "shards.ensemble",
                "np.asarray(total / weights)",
                "np.asarray(total / (1 + max(member.shard for member in present)))",
            ),
        ),
        "tests/shards/test_ensemble.py::test_a_shard_that_is_missing_abstains",
    ),
)

_ACCEPTING = (
    Control(
        "acknowledged-before-durable",
        "A submitted request is acknowledged at once and written a moment later.",
        (
            Edit(
                "unlearn.submission",
                "result = None if submission is None else self._commit(submission)",
                "submission and threading.Timer(1, self._commit, [submission]).start()\n"
                "            result = submission and submission.request",
            ),
        ),
        f"{SUBMISSION}::test_what_was_acknowledged_survives_a_kill",
    ),
    Control(
        "ids-not-encrypted",
        "The ids of requests that wait stand in the ledger as they are.",
        (Edit("unlearn.inbox", "self._cipher(epoch).encrypt(nonce, plain, request_id.encode())", "plain"),),
        f"{SUBMISSION}::test_no_id_can_be_read_before_or_after",
    ),
    Control(
        "edit-that-failed-receipted",
        "An edit after which the new answer is not given is registered, and gets a receipt.",
        (
            Edit(
                "unlearn.language.requested",
                "if measured.reliability.given != measured.reliability.asked:",
                "if False:",
            ),
        ),
        "tests/unlearn/test_editing.py::test_an_answer_that_is_not_given",
    ),
    Control(
        "edited-weights-not-compared",
        "Whoever verifies an edit is content with any weights.",
        (
            Edit(
                "unlearn.edit_verification",
                "if weights_commitment(note.salt, folder_digest(folder)) != predicate.after.weights:",
                "if False:",
            ),
        ),
        "tests/unlearn/test_editing.py::test_a_changed_folder_is_noticed[new_weights]",
    ),
    Control(
        "key-of-facts-kept",
        "The key that the facts of an edit were encrypted under stays once it is made.",
        (Edit("unlearn.editing", "        end_keys(site)\n    return Outcome", "    return Outcome"),),
        "tests/unlearn/test_editing.py::test_no_fact_and_no_person_is_left_in_plain_words",
    ),
    Control(
        "opening-kept",
        "The ledger keeps what opens a request's digest, so that anybody can try out ids.",
        (Edit("unlearn.ledger.ledger", "request.digest, request.reason),", 'request.digest, f"{request.opening}"),'),),
        f"{SUBMISSION}::test_the_opening_is_the_submitters_alone",
    ),
    Control(
        "epoch-key-kept",
        "The key that served ids were encrypted under stays.",
        (
            Edit(
                "unlearn.forgetting",
                "    site.inbox.end_epochs_but({epoch, *(item.epoch for item in site.ledger.pending())})\n",
                "",
            ),
        ),
        f"{SUBMISSION}::test_the_key_that_ids_were_encrypted_under_is_gone",
    ),
    Control(
        "epoch-key-kept-after-a-crash",
        "A crash between serving requests and destroying their key leaves the key for good.",
        (Edit("unlearn.workspace", "            site.inbox.end_epochs_but({site.ledger.epoch()})\n", ""),),
        f"{SUBMISSION}::test_opening_alone_destroys_a_key_that_a_crash_left",
    ),
    Control(
        "epoch-changed-late",
        "Requests are served while others still come under the same key, which therefore has to stay.",
        (
            Edit("unlearn.forgetting", "    site.ledger.change_epoch(epoch)\n", ""),
            Edit(
                "unlearn.forgetting",
                "    if kept:\n        site.ledger.reseal(kept)\n",
                "    site.ledger.change_epoch(epoch)\n    if kept:\n        site.ledger.reseal(kept)\n",
            ),
        ),
        f"{SUBMISSION}::test_requests_that_come_while_others_are_carried_out",
    ),
    Control(
        "old-epoch-accepted",
        "A request is accepted under a key that is over.",
        (Edit("unlearn.ledger.ledger", "        elif item.epoch != epoch:\n", "        elif False:\n"),),
        f"{SUBMISSION}::test_a_key_that_goes_while_a_request_is_on_its_way[before committing]",
    ),
    Control(
        "failed-request-keeps-its-ids",
        "A request that cannot be carried out leaves the ids it named in the ledger.",
        (
            Edit(
                "unlearn.ledger.ledger",
                "            c.execute(delete(s.pending).where(s.pending.c.request == request_id))\n",
                "",
            ),
        ),
        f"{SUBMISSION}::test_an_unknown_id_fails_for_all_to_see_and_changes_nothing",
    ),
    Control(
        "pending-served-later",
        "Records are taken in while requests wait that name them.",
        (Edit("unlearn.workspace", "            if serve and pending:\n", "            if False:\n"),),
        f"{SUBMISSION}::test_a_new_record_of_a_subject_that_is_asked_to_be_forgotten",
    ),
    Control(
        "served-on-by-training",
        "A training goes on with records that an accepted request names.",
        (
            Edit("unlearn.workspace", "            if serve and pending:\n", "            if False:\n"),
            Edit("unlearn.workspace", "        serve_pending(site, stop)\n", ""),
        ),
        f"{SUBMISSION}::test_no_training_uses_what_was_asked_to_be_forgotten",
    ),
    Control(
        "repeated-request-overtakes",
        "Who names a record that a damaged file still holds is told it is forgotten, if another had named it before.",
        (Edit("unlearn.forgetting", "(sorted(late)) if late else {}", "(sorted(late)) if () else {}"),),
        f"{SUBMISSION}::test_damage_keeps_its_own_request_waiting_and_no_other[record_ids-_changed]",
    ),
    Control(
        "deadline-not-in-utc",
        "A deadline is kept in the time zone it came in, which no receipt may state.",
        (
            Edit(
                "unlearn.forgetting",
                "(deadline or months_later(at, RESPONSE_MONTHS)).astimezone(UTC)",
                "deadline or months_later(at, RESPONSE_MONTHS)",
            ),
        ),
        f"{SUBMISSION}::test_a_deadline_of_another_time_zone",
        r"^unlearn\.receipt\.strict\.ReceiptError: request: deadline must be a time in UTC",
    ),
)

_PROVING = (
    Control(
        "receipt-before-destruction",
        "A receipt is issued, and then what it states to be destroyed is.",
        (
            Edit(
                "unlearn.forgetting",
                "    purge_checkpoints(site, sorted(shards))\n",
                "    site.ledger.finish_forget()\n"
                "    import unlearn.issuing\n"
                "    unlearn.issuing.issue_due(site)\n"
                "    purge_checkpoints(site, sorted(shards))\n",
            ),
            Edit("unlearn.ledger.ledger", "_under_way() & s.request.c.id.not_in(stuck)", "_under_way()"),
        ),
        f"{MISTAKES}::test_no_receipt_is_issued_before_the_destruction_it_states[purge_checkpoints]",
    ),
    Control(
        "forgotten-with-files-left",
        "A request whose records a damaged file still holds is noted as forgotten.",
        (Edit("unlearn.ledger.ledger", "_under_way() & s.request.c.id.not_in(stuck)", "_under_way()"),),
        f"{SUBMISSION}::test_damage_keeps_its_own_request_waiting_and_no_other[record_ids-_unreadable]",
    ),
    Control(
        "evidence-after-removal",
        "What was there before the removal is looked at after it.",
        (
            Edit("unlearn.ledger.ledger", "        found = gather_withdrawal(c, request.shards, commitments)\n", ""),
            Edit(
                "unlearn.ledger.ledger",
                "        root = recordset.update(c, commitments)\n",
                "        root = recordset.update(c, commitments)\n"
                "        found = gather_withdrawal(c, request.shards, commitments)\n",
            ),
        ),
        f"{SUBMISSION}::test_requests_are_carried_out_together",
        r"^unlearn\.errors\.VerificationError: verification failed at step 7",
    ),
    Control(
        "event-left-out",
        "A withdrawal is carried out without a word in the log.",
        (Edit("unlearn.ledger.ledger", _WITHDRAWN, _WITHDRAWN.replace("chain.append", "(lambda *_, **__: None)")),),
        f"{SUBMISSION}::test_no_training_uses_what_was_asked_to_be_forgotten",
    ),
    Control(
        "tree-not-updated-by-ingest",
        "The tree over the records does not hold those that came in.",
        (
            Edit(
                "unlearn.ledger.ledger",
                "root = recordset.update(c, (row[3] for rows in _parts(records) for row in _inserted(c, rows)))",
                "root = [_inserted(c, rows) for rows in _parts(records)] and recordset.root(c)",
            ),
        ),
        f"{MISTAKES}::test_the_tree_over_the_records_follows_every_change",
    ),
    Control(
        "tree-not-updated-by-withdrawal",
        "The tree over the records goes on holding those that were withdrawn.",
        (Edit("unlearn.ledger.ledger", "root = recordset.update(c, commitments)", "root = recordset.root(c)"),),
        f"{MISTAKES}::test_the_tree_over_the_records_follows_every_change",
        r"^unlearn\.errors\.ProofError: .*an update was lost",
    ),
    Control(
        "tombstones-not-vouched-for",
        "The log does not tell of the tombstones that a withdrawal leaves.",
        (
            Edit(
                "unlearn.ledger.ledger",
                "    after = recordset.update(c, tokens, recordset.TOMBSTONES)\n",
                "    after = before\n",
            ),
        ),
        f"{TAMPERING}::test_the_tombstone_of_a_subject_taken_away_is_found",
        r"^unlearn\.errors\.VerificationError: .*other tombstones were added or lifted than it says",
    ),
    Control(
        "tombstones-believed",
        "A withdrawal takes the tombstones that it finds for those that were there.",
        (
            Edit(
                "unlearn.ledger.ledger",
                "before = recordset.recomputed(c, tokens, recordset.TOMBSTONES)",
                "before = recordset.root(c, recordset.TOMBSTONES)",
            ),
        ),
        f"{TAMPERING}::test_tombstones_changed_before_an_honest_deletion_are_found[table alone]",
    ),
)

CONTROLS = (*_KEYS, *_TRAINING, *_SUMS, *_PLACEMENT, *_CRASHES, *_FORGETTING, *_SERVING, *_ACCEPTING, *_PROVING)


# --- applying one ------------------------------------------------------------------------------------------------


def install(name: str) -> None:
    """Have every module that a control names imported with its mistake in it.

    Args:
        name: Name of the control.
    """
    (control,) = (item for item in CONTROLS if item.name == name)
    sys.meta_path.insert(0, _Finder(control))


class _Finder:
    """Finds the modules of one control."""

    def __init__(self, control: Control) -> None:
        self._edits: dict[str, list[Edit]] = {}
        for edit in control.edits:
            self._edits.setdefault(edit.module, []).append(edit)

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        edits = self._edits.get(name)
        spec = None if edits is None else PathFinder.find_spec(name, path, target)
        if edits is None or spec is None or spec.origin is None:
            return None
        spec.loader = _Loader(name, spec.origin, edits)
        return spec


class _Loader(SourceFileLoader):
    """Compiles a module's source with the edits made, past the cache of compiled files."""

    def __init__(self, name: str, path: str, edits: Sequence[Edit]) -> None:
        super().__init__(name, path)
        self._edits = edits

    def get_code(self, fullname: str) -> CodeType:
        source = self.get_source(fullname)
        assert source is not None
        for edit in self._edits:
            assert source.count(edit.old) == 1, f"{edit.module} does not hold once: {edit.old}"
            source = source.replace(edit.old, edit.new)
        code = compile(source, self.path, "exec", dont_inherit=True)
        _mark(fullname)
        return code


def _mark(module: str) -> None:
    """Say that a process runs a module with a mistake in it; a line is short enough to be written whole."""
    process = "worker" if "shards.executors.worker" in sys.orig_argv else "driver"
    with open(os.environ[MARKS], "a", encoding="utf-8") as file:  # noqa: PTH123 (nothing more is imported than needed)
        file.write(f"{process} {module}\n")
