"""The rubrics that `judge.rubric` may name. One more is a file with a `Rubric`, and a line here."""

from lima.judging import likert, preference
from lima.judging.rubric import Rubric
from lima.spec import names

RUBRICS = names.Registry[Rubric](names.RUBRICS)
"""By name."""

for _rubric in (likert.LIKERT, preference.PREFERENCE):
    RUBRICS.add(_rubric.name, _rubric)
