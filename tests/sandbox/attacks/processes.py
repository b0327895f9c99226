"""Ways to make processes, to outlive the deadline, and to reach the processes of others."""
# ruff: noqa: F821  the preamble defines the names, and a program that ends closes its files

from attacks import attack


@attack()
def forks():
    if os.fork() == 0:
        os._exit(0)
    leak("forked")


@attack()
def forks_by_raw_system_calls():
    if syscall("clone", 17, 0, 0, 0, 0) == 0:
        LIBC._exit(0)
    leak("cloned")


@attack()
def bombs_with_forks():
    children = []
    for _ in range(100):
        if (pid := os.fork()) == 0:
            time.sleep(5)
            os._exit(0)
        children.append(pid)
    leak(f"{len(children)} children")
    for pid in children:
        os.kill(pid, 9)


@attack()
def bombs_with_threads():
    stop = threading.Event()
    threading.stack_size(64 << 10)
    threads = [threading.Thread(target=stop.wait) for _ in range(100)]
    try:
        for thread in threads:
            thread.start()
        leak(f"{threading.active_count()} threads")
    finally:
        stop.set()


@attack()
def starts_a_subprocess():
    import subprocess

    leak(subprocess.run([sys.executable, "-c", "print(1)"], capture_output=True).stdout)


@attack()
def spawns_by_the_c_library():
    leak(os.posix_spawn(sys.executable, [sys.executable, "-c", "pass"], {}))


@attack()
def uses_multiprocessing():
    import multiprocessing

    process = multiprocessing.get_context("fork").Process(target=print)
    process.start()
    process.join()
    leak(process.exitcode)


@attack(timeout=0.8)
def loops_for_ever():
    end = time.monotonic() + 1.5
    while time.monotonic() < end:
        pass
    leak("past its deadline")


@attack(timeout=0.8)
def sleeps_past_the_deadline_and_ignores_sigterm():
    import signal

    for number in range(1, 32):
        if number not in (signal.SIGKILL, signal.SIGSTOP, signal.SIGSEGV):
            signal.signal(number, signal.SIG_IGN)
    end = time.monotonic() + 1.5
    while time.monotonic() < end:
        time.sleep(0.1)
    leak("past its deadline")


@attack(timeout=0.8)
def closes_its_output_and_goes_on():
    os.dup2(os.open("/dev/null", os.O_WRONLY), 2)
    keep = os.dup(1)
    os.close(1)
    end = time.monotonic() + 1.5
    while time.monotonic() < end:
        time.sleep(0.1)
    os.write(keep, b"LEAK past its deadline\n")


@attack(timeout=0.8)
def leaves_a_daemon_behind():
    for _ in range(2):
        if os.fork():
            time.sleep(1.5)
            os._exit(0)
        os.setsid()
    time.sleep(1)
    leak("a daemon past the deadline")


@attack()
def leaves_its_session():
    if os.fork() == 0:
        os.setsid()
        leak("a session of its own")
        os._exit(0)
    os.wait()


@attack()
def leaves_a_thread_at_its_end():

    def outlive():
        time.sleep(1)
        leak("a thread after the end")

    threading.Thread(target=outlive).start()
    if not HOST["bare"]:
        os._exit(0)


@attack()
def signals_a_process_of_the_host():
    os.kill(HOST["victim"], 0)
    leak("the victim is in reach")


@attack()
def signals_its_parent():
    os.kill(HOST["driver"], 0)
    leak("the server is in reach")


@attack(without_sandbox="process 1 belongs to root there")
def kills_process_1():
    os.kill(1, 9)
    time.sleep(0.5)
    if HOST["bare"]:
        leak("killed")


@attack()
def opens_a_descriptor_of_a_process():
    leak(syscall("pidfd_open", HOST["victim"], 0))


@attack()
def traces_a_process():
    syscall("ptrace", 16, HOST["victim"], 0, 0)
    leak("attached")


@attack()
def lets_itself_be_traced():
    syscall("ptrace", 0, 0, 0, 0)
    leak("traced")


@attack()
def reads_the_memory_of_a_process():
    buffer = ctypes.create_string_buffer(8)
    local = (ctypes.c_void_p * 2)(ctypes.addressof(buffer), 8)
    syscall("process_vm_readv", os.getpid(), local, 1, local, 1, 0)
    leak("memory of another process, or of its own, which is the same call")


@attack()
def limits_a_process_of_the_host():
    old = (ctypes.c_ulong * 2)()
    syscall("prlimit64", HOST["victim"], 7, None, old)
    leak(list(old))


@attack(without_sandbox="a hard limit needs CAP_SYS_RESOURCE")
def raises_its_limits():
    import resource

    for limit in (resource.RLIMIT_AS, resource.RLIMIT_NPROC, resource.RLIMIT_NOFILE, resource.RLIMIT_CPU):
        hard = resource.getrlimit(limit)[1]
        if hard == resource.RLIM_INFINITY:
            continue
        try:
            resource.setrlimit(limit, (hard + 1, hard + 1))
        except (OSError, ValueError):
            continue
        leak(limit)


@attack(without_sandbox="needs CAP_SETUID")
def becomes_root():
    os.setresuid(0, 0, 0)
    leak(os.getuid())


@attack()
def takes_the_hosts_place_in_the_scheduler():
    os.sched_setaffinity(0, {0})
    leak("affinity set")
