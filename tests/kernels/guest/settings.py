"""What the host asks for, on the kernel's command line: samepage.NAME=VALUE; and the disks that it gave."""
import glob
import os
import subprocess

FOLDER = "/steps"  # all that steps write, but for what is on the disk; removed behind each

steps = []     # those to run, in this order
patience = 1   # how many times longer than on a quiet machine everything may take
kills = 3      # daemons that are killed
siege = 30     # seconds of a siege

# Disks of the machine; empty where the kernel has no driver for them.
disk = ""      # with a file system, at /disk
swap = ""      # to swap to, where there is no module for compressed memory
slow = ""      # reads of some pages of it take a second


def read(path):
    with open(path) as file:
        for word in file.read().split():
            if word.startswith("samepage."):
                name, _, value = word[len("samepage."):].partition("=")
                kind = type(globals()[name])
                globals()[name] = value.split(",") if kind is list else kind(value)


def find_disks():
    """By the name that each has for a serial number: in which order they come is chance."""
    for folder in glob.glob("/sys/class/nvme/*"):
        with open(folder + "/serial") as file:
            name = file.read().strip()
        if name in ("disk", "swap", "slow"):
            globals()[name] = "/dev/%sn1" % os.path.basename(folder)
    if disk and subprocess.call(["/bin/mount", "-t", "ext4", disk, "/disk"]):
        raise OSError("the disk %s cannot be mounted" % disk)
