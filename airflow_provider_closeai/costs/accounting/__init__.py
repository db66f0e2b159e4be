"""From observations to a month's report: no I/O, no clock, no Airflow. Internal."""
