"""Ways to use more than the limits allow.  Without a sandbox each takes a bounded amount, so that the host survives."""
# ruff: noqa: F821  the preamble defines the names, and a program that ends closes its files

from attacks import attack


@attack()
def fills_memory():
    parts = [bytearray(10 << 20) for _ in range(60)]
    leak(f"{len(parts) * 10} MiB")


@attack()
def maps_memory():
    import mmap

    memory = mmap.mmap(-1, 600 << 20)
    memory[0] = 1
    leak("600 MiB")


@attack()
def fills_a_memory_file():
    descriptor = os.memfd_create("bomb")
    leak(descriptor)


@attack()
def shares_memory_by_system_v():
    segment = syscall("shmget", 0, 1 << 20, 0o1600)
    LIBC.shmctl(segment, 0, None)
    leak(segment)


@attack()
def makes_a_message_queue():
    queue = syscall("msgget", 0, 0o1600)
    LIBC.msgctl(queue, 0, None)
    leak(queue)


@attack()
def opens_a_posix_message_queue():
    leak(syscall("mq_open", b"attack", 0o102, 0o600, None))
    syscall("mq_unlink", b"attack")


@attack(without_sandbox="memory that is locked has a limit there too")
def locks_memory():
    import mmap

    memory = mmap.mmap(-1, 64 << 20)
    syscall("mlock", ctypes.c_void_p(ctypes.addressof(ctypes.c_char.from_buffer(memory))), 64 << 20)
    leak("locked")


@attack()
def fills_the_disk_by_one_file():
    with open("bomb", "wb") as file:
        for _ in range(70):
            file.write(bytes(1 << 20))
    leak("70 MiB")


@attack()
def fills_the_disk_by_many_files():
    for i in range(10):
        with open(f"bomb{i}", "wb") as file:
            file.write(bytes(8 << 20))
    leak("80 MiB")


@attack()
def fills_the_disk_by_allocation():
    for i in range(2):
        os.posix_fallocate(os.open(f"bomb{i}", os.O_CREAT | os.O_WRONLY), 0, 40 << 20)
    leak("80 MiB")


@attack()
def writes_a_sparse_file():
    os.truncate(os.open("sparse", os.O_CREAT | os.O_WRONLY), 1 << 30)
    leak("1 GiB long")


@attack(max_output=1 << 20, timeout=20)
def floods_standard_output():
    for _ in range(1 << 11):
        os.write(1, b"x" * 1023 + b"\n")
    leak("2 MiB")


@attack(max_output=1 << 20, timeout=20)
def floods_standard_error():
    for _ in range(1 << 11):
        os.write(2, b"x" * 1023 + b"\n")
    leak("2 MiB")


@attack()
def opens_too_many_files():
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    descriptors = [os.open("/dev/null", os.O_RDONLY) for _ in range(600)]
    leak(f"{len(descriptors)} descriptors")


@attack()
def grows_its_standard_input():
    descriptor = 0
    os.lseek(descriptor, 0, os.SEEK_END)
    os.ftruncate(descriptor, 1 << 20)
    leak("standard input is 1 MiB long")


@attack(timeout=20)
def has_cpu_time_without_end():
    import resource

    if not 0 < resource.getrlimit(resource.RLIMIT_CPU)[1] <= 41:
        leak("CPU time is not limited")


@attack()
def dumps_core():
    import resource

    if resource.getrlimit(resource.RLIMIT_CORE)[1]:
        leak("core files are not off")


@attack()
def overflows_the_c_stack():

    sys.setrecursionlimit(10**9)

    def endless(depth):
        return eval("endless(depth)", {"endless": endless, "depth": depth})

    if HOST["bare"]:
        leak("it would crash its own process, inside and outside; inside, only the sandbox sees it")
    else:
        endless(0)
