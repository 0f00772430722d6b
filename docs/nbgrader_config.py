"""Settings for a class that uses nbgrader: copy this file into the course's folder, beside `source/`.

docs/nbgrader.md says how to run such a class, and what no setting can close.
"""

import os
import secrets

from nbconvert.preprocessors import ClearMetadataPreprocessor
from nbgrader import preprocessors

c = get_config()  # noqa: F821  # nbgrader defines it


class ForgetEmptyKeys(preprocessors.base.NbGraderPreprocessor):
    """Where a cell was copied, DeduplicateIds leaves empty metadata, and adding missing cells stumbles over them."""

    def preprocess_cell(self, cell, resources, index):
        """Take empty metadata away."""
        if cell.metadata.get("nbgrader") == {}:
            del cell.metadata["nbgrader"]
        return cell, resources


c.CourseDirectory.course_id = "segcourse"

# --- The release is the lesson that `segcourse build` makes ---

# The marks around solutions. nbgrader's own are the same; here they cannot change under us.
c.ClearSolutions.begin_solution_delimeter = "BEGIN SOLUTION"
c.ClearSolutions.end_solution_delimeter = "END SOLUTION"
# nbgrader's stub raises an error, and Run All stops. With dots it reaches the end, and a check says "not attempted".
c.ClearSolutions.code_stub = {"python": "# YOUR CODE HERE: replace the dots.\nreturn ..."}
# No locks: they are a wish to the student's editor, and hold nobody. What was changed is put back below.
c.LockCells.lock_solution_cells = False
c.LockCells.lock_grade_cells = False
c.LockCells.lock_readonly_cells = False

# The notebook's own metadata hold the sliders' states, pictures of what solutions computed. What kernel it needs stays.
c.ClearMetadataPreprocessor.enabled = True
c.ClearMetadataPreprocessor.clear_cell_metadata = False
c.ClearMetadataPreprocessor.preserve_nb_metadata_mask = {"kernelspec", ("language_info", "name")}
# nbgrader's own steps, and the one above.
c.GenerateAssignment.preprocessors = [
    preprocessors.IncludeHeaderFooter,
    preprocessors.LockCells,
    preprocessors.ClearSolutions,
    preprocessors.ClearOutput,
    ClearMetadataPreprocessor,
    preprocessors.CheckCellMetadata,
    preprocessors.ComputeChecksums,
    preprocessors.SaveCells,
    preprocessors.ClearHiddenTests,
    preprocessors.ClearMarkScheme,
    preprocessors.ComputeChecksums,
    preprocessors.CheckCellMetadata,
]

# --- What a submission brings along does not count ---

# Only notebooks and data. A numpy.py or a folder segcourse/ beside the notebook would be imported in place of ours.
c.CourseDirectory.ignore = [".ipynb_checkpoints", "__pycache__", "feedback", "*.py", "*.pyc", "*.so", "*.pyd", "*.pth"]
# In kilobytes. Nobody's notebook needs more, and a disk is soon full.
c.CourseDirectory.max_file_size = 20_000
c.CourseDirectory.max_dir_size = 50_000
# Points, checks and setup come from the release (OverwriteCells), a copied cell counts once (DeduplicateIds), and the
# kernel is the release's (OverwriteKernelspec). These are nbgrader's own steps, and the class above.
c.Autograde.sanitize_preprocessors = [
    preprocessors.ClearOutput,
    preprocessors.DeduplicateIds,
    ForgetEmptyKeys,
    preprocessors.OverwriteKernelspec,
    preprocessors.OverwriteCells,
    preprocessors.CheckCellMetadata,
]
# A check that was deleted comes back and counts. Where ids were changed, nbgrader reports an error and gives no mark;
# without this line it would give no points and say no word.
c.OverwriteCells.add_missing_cells = True
# A cell with the tag `skip-execution` is not run, and what is not run has no error: full points for a blank notebook.
# The tag is renamed to what nobody can guess.
c.Execute.skip_cells_with_tag = secrets.token_hex(16)
# nbgrader gives no points where anything was written to stderr: a warning costs all. A failed check raises an error,
# and needs no stderr to be seen; so what stands there is dropped before points are given.
c.IgnorePattern.enabled = True
c.IgnorePattern.pattern = r"(?s)^"

# --- How long, how much ---

# Seconds for a cell. nbgrader's 30 are too few for a training on a busy machine.
c.Execute.timeout = 120
c.Execute.startup_timeout = 120
# A cell that is late is interrupted, gets no points, and the next one runs.
c.Execute.interrupt_on_timeout = True
# A kernel that was told to end has handlers to run, the student's included; this one is killed.
c.Execute.shutdown_kernel = "immediate"
# Endless printing fills no feedback page.
c.LimitOutput.max_lines = 200
c.LimitOutput.max_traceback = 50
# Pictures of sliders are not kept: files stay small.
c.Execute.store_widget_state = False

# One thread, as in the course's tests: sums in the same order, and no two kernels in each other's way.
os.environ["OMP_NUM_THREADS"] = "1"
