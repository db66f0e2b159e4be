"""From observations to a month's report: no I/O, no clock, no Airflow. Internal.

One account's month, from the files to the figure:

1. ``store/observations.py`` reads the month's files, and those around its turns (:mod:`.observations`).
2. :mod:`.aggregate` makes each account's trace from all of these: where its counter moved (:mod:`.traces`).
3. :mod:`.turns` judges where that counter started again from 0, at the month's start and at its end.
4. :mod:`.split` takes the movements between these turns: their sum is the counter's figure (:mod:`.history`).
5. :mod:`.report` uses the closed figure instead if there is one, and adds appended lines (:mod:`.booked`).
   :mod:`.owners` decides who pays; :mod:`.parts` splits what several pay (:mod:`.shares`).
6. :mod:`.report_model` adds up by owner, team and day; :mod:`.doubts` and :mod:`.remarks` write its warnings.

Besides, :mod:`.listing` and :mod:`.late_runs` decide what may be recorded, :mod:`.closing` what a close
writes, :mod:`.alerts` what is reported, and :mod:`.earlier` what a month is compared with.
"""
