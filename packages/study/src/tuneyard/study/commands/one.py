"""`yard study one`: the training, or the evaluations, of one run; what each task of a batch array does."""

from __future__ import annotations

import json

from tuneyard.control.summary import say
from tuneyard.study.commands.opening import parser, study_of
from tuneyard.study.commands.run import told
from tuneyard.study.execute import Execution
from tuneyard.study.jobs import baselines, evaluations, training


def main(command: str, arguments: list[str]) -> int:
    made = parser(command, "Train or evaluate one run of a study here and wait for it; go on where it was left.")
    made.add_argument("stage", choices=("train", "eval", "baseline"), help="what to do")
    made.add_argument("number", type=int, nargs="?", default=0, help="number of the run (not for baseline)")
    options = made.parse_args(arguments)
    study = study_of(options)
    if options.stage == "baseline":
        jobs = list(baselines(study))
    else:
        point = study.point(options.number)
        train = training(study, point)
        jobs = [train] if options.stage == "train" else evaluations(study, point, train)
    tally = Execution(study, say, again=True, only=jobs).run()
    print(json.dumps(vars(tally)) if options.json else told(tally))
    return 1 if tally.failed or tally.refused else 0
