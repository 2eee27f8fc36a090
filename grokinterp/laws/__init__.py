"""What MANY runs say together: onsets and leads, laws of the grokking time, boundaries, paired arms and predictors.

Arrays in, one value for each run, or the runs themselves, a sweep's table and reports, where a law knows what to read off them (`subjects`);
frozen results out, each with a ``table()``, a ``figure()`` and a line, ``str(result)``, printed by ``to_latex()`` and ``to_csv()``. Random numbers
come only from the generator that is passed in.
"""

from grokinterp.laws.boundary import LogisticBoundary, logistic_boundary
from grokinterp.laws.discrimination import Discrimination, discrimination
from grokinterp.laws.fork import ForkFit, ForkLaw, fork_law
from grokinterp.laws.onsets import LeadTimes, lead_times, onset
from grokinterp.laws.paired import PairedDifference, paired_difference
from grokinterp.laws.phases import PhaseDiagram, phase_diagram
from grokinterp.laws.prediction import Detection, alarm_threshold, detection
from grokinterp.laws.results import Estimate, Result
from grokinterp.laws.scaling import GrokkingTimeInP, PowerLaw, grokking_time_in_p, power_law, power_law_above
from grokinterp.laws.survival import SurvivalBoundary, survival_boundary
from grokinterp.laws.waiting import Onsets, PairedOnsets, onsets, paired_onsets

__all__ = [
    "Detection",
    "Discrimination",
    "Estimate",
    "ForkFit",
    "ForkLaw",
    "GrokkingTimeInP",
    "LeadTimes",
    "LogisticBoundary",
    "Onsets",
    "PairedDifference",
    "PairedOnsets",
    "PhaseDiagram",
    "PowerLaw",
    "Result",
    "SurvivalBoundary",
    "alarm_threshold",
    "detection",
    "discrimination",
    "fork_law",
    "grokking_time_in_p",
    "lead_times",
    "logistic_boundary",
    "onset",
    "onsets",
    "paired_difference",
    "paired_onsets",
    "phase_diagram",
    "power_law",
    "power_law_above",
    "survival_boundary",
]
