"""What keeps the code of tasks from harming others: another user, limits of memory, files and CPU time, a smaller environment.

plan         pure: what is asked for and what the host offers become `Fences`, and the order in which they are put up
host         what this host offers: accounts, and control groups that can be made
processor    puts them up in a processor, before any code of tasks runs
memory_groups, private_folders, cpu_time, environment    one kind of fence each
"""
