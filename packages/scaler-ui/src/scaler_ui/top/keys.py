"""The text that `?` shows in `scaler_top`."""

HELP = """\
1  workers      2  clients     3  failures
4  labels       5  functions   6  messages of the scheduler
7  groups of clients, if there are any
8  progress that running tasks report      9  jobs
0  tasks since this view opened            /  filter tasks

sort the workers by
n  name         c  cpu         m  rss (memory)
f  free         w  working     q  queued

o  output of the row's task   t  output of a task by number
k  cancel the row's task, or all tasks of the row's client,
   function or label; asks once more, and y is yes

arrows  choose a row            Enter   show it in full
?       this page               Esc     close it; leave
Ctrl-C  leave

busy     share of the workers that run a task
running  tasks that workers run now
queued   tasks at workers that have not begun
waiting  tasks that no worker has yet
free     how many more tasks a worker takes
sent     tasks assigned to a worker without a result

red      failures; workers that nothing is heard of
yellow   workers that start or stop; tasks that wait
         while workers are free: for capabilities, resources or
         a limit of their group; scaler_dump shows which
NO_COLOR=1 shows no colours. b k m g t are bytes, KiB, MiB, GiB, TiB;
100 % cpu is one core.
"""
