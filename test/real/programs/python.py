"""A Python program, see selfcheck.h for how it is run: threads, a queue, open
files, a generator, a subprocess, random numbers that go on as they would have."""

import os
import queue
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time

directory = sys.argv[1]
pid = os.getpid()


def path(name):
    return os.path.join(directory, name)


def wrong(text):
    with open(path("wrong"), "a") as f:
        print(text, file=f)
    os._exit(1)


def write_file(name, text):
    with open(path(name + ".new"), "w") as f:
        f.write(text)
    os.rename(path(name + ".new"), path(name))


def check(condition, text):
    if not condition:
        wrong(text)


def squares():
    n = 0
    while True:
        yield n * n
        n += 1


def worker():
    local.value = threading.current_thread().name
    while True:
        n, answer = work.get()
        check(local.value == threading.current_thread().name, "thread-local value")
        answer.put(n * 2)


local = threading.local()
work = queue.Queue()
for i in range(4):
    threading.Thread(target=worker, name="worker-%d" % i, daemon=True).start()

log = open(path("log"), "w+")
temporary = tempfile.TemporaryFile(dir=directory)
temporary.write(bytes(range(256)) * 100)
temporary.seek(1000)
child = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
numbers, again = random.Random(17), random.Random(17)
handled = []
signal.signal(signal.SIGUSR1, lambda number, frame: handled.append(number))
table = {str(n): [n] * 3 for n in range(20000)}
sequence = squares()

write_file("ready", "%d 4\n" % pid)
count = 0
while not os.path.exists(path("finish")):
    time.sleep(0.01)
    check(os.getpid() == pid, "pid")
    check(next(sequence) == count * count, "generator")
    count += 1
    answer = queue.Queue()
    for n in range(8):
        work.put((n, answer))
    check(sorted(answer.get(timeout=20) for _ in range(8)) == list(range(0, 16, 2)), "queue")
    child.stdin.write(b"line %d\n" % count)
    child.stdin.flush()
    check(child.stdout.readline() == b"line %d\n" % count, "subprocess")
    check(numbers.random() == again.random(), "random numbers")
    os.kill(pid, signal.SIGUSR1)
    time.sleep(0.001)
    check(len(handled) == count, "signals: %d, want %d" % (len(handled), count))
    log.write("%d\n" % count)
    log.flush()
    check(os.pread(temporary.fileno(), 1, 1000) == bytes([1000 % 256]) and temporary.tell() == 1000, "temporary file")
    check(table["12345"] == [12345] * 3, "table")
    if os.path.exists(path("damage")):
        kind = open(path("damage")).read().strip()
        os.remove(path("damage"))
        if kind == "1":
            next(sequence)
        elif kind == "2":
            numbers.random()
        elif kind == "3":
            log.truncate(0)
        elif kind == "4":
            temporary.seek(0)
    write_file("beat", "%020d\n" % count)

log.seek(0)
check([int(line) for line in log] == list(range(1, count + 1)), "log")
check(table == {str(n): [n] * 3 for n in range(20000)}, "table")
child.stdin.close()
check(child.wait(20) == 0, "end of the subprocess")
sys.exit(42)
