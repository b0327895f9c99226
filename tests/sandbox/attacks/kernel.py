"""Ways to the kernel's rarer doors."""
# ruff: noqa: F821  the preamble defines the names, and a program that ends closes its files

from attacks import attack

NEEDS_ROOT = "the kernel refuses it to ordinary users"


@attack(without_sandbox=NEEDS_ROOT)
def mounts_a_file_system():
    os.mkdir("mnt")
    syscall("mount", b"none", b"mnt", b"tmpfs", 0, None)
    leak("mounted")


@attack(without_sandbox=NEEDS_ROOT)
def mounts_by_the_new_calls():
    leak(syscall("fsopen", b"tmpfs", 0))


@attack(without_sandbox=NEEDS_ROOT)
def unmounts():
    for place in (b"/dev", b"/home/sandbox", b"/usr/lib"):
        syscall("umount2", place, 2)
        leak(place)


@attack(without_sandbox=NEEDS_ROOT)
def makes_the_root_writable_again():
    syscall("mount", None, b"/", None, 32, None)  # MS_REMOUNT
    leak("remounted")


@attack()
def opens_a_user_namespace():
    syscall("unshare", 0x10000000)
    leak("unshared")


@attack()
def clones_a_user_namespace():
    if syscall("clone", 0x10000000 | 17, 0, 0, 0, 0) == 0:
        LIBC._exit(0)
    leak("cloned")


@attack()
def clones_by_the_new_call():
    arguments = (ctypes.c_ulong * 11)()
    arguments[0], arguments[4] = 0x10000000, 17
    if syscall("clone3", arguments, 88) == 0:
        LIBC._exit(0)
    leak("cloned")


@attack(without_sandbox=NEEDS_ROOT)
def enters_another_namespace():
    for descriptor in range(3, 20):
        try:
            syscall("setns", descriptor, 0)
        except OSError as error:
            if error.errno not in (1, 38):
                leak(f"the call is there: {error}")
            continue
        leak(descriptor)


@attack(without_sandbox=NEEDS_ROOT)
def changes_its_root():
    os.mkdir("root")
    os.chroot("root")
    leak("changed")


@attack(without_sandbox=NEEDS_ROOT)
def pivots_its_root():
    syscall("pivot_root", b".", b".")
    leak("pivoted")


@attack(without_sandbox="there is no terminal in a test, so the answer is ENOTTY")
def types_into_the_terminal():

    for descriptor in (0, 1, 2):
        for request in (0x5412, 0x100005412):  # TIOCSTI, and again with bits that the kernel ignores
            LIBC.ioctl.argtypes = [ctypes.c_int, ctypes.c_ulong, ctypes.c_char_p]
            if LIBC.ioctl(descriptor, request, b"x") == 0:
                leak("typed")
            elif ctypes.get_errno() != 1:
                print("the kernel itself answered", os.strerror(ctypes.get_errno()))
                if not HOST["bare"]:
                    leak("the filter let it through")


@attack()
def opens_a_pseudo_terminal_and_types():
    import fcntl
    import termios

    _, slave = os.openpty()
    fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
    fcntl.ioctl(slave, termios.TIOCSTI, b"x")
    leak("typed")


@attack()
def sets_up_io_uring():
    leak(syscall("io_uring_setup", 8, ctypes.create_string_buffer(120)))


@attack()
def sets_up_asynchronous_io():
    leak(syscall("io_setup", 8, ctypes.byref(ctypes.c_ulong())))


@attack()
def adds_a_key():
    leak(syscall("add_key", b"user", b"attack", b"x", 1, -2))


@attack()
def reads_the_session_keyring():
    leak(syscall("keyctl", 0, -3, 1, 0, 0))


@attack(without_sandbox="kernel.unprivileged_bpf_disabled is the default of distributions")
def loads_a_bpf_map():
    attributes = ctypes.create_string_buffer(72)
    attributes[:16] = b"".join(value.to_bytes(4, sys.byteorder) for value in (2, 4, 4, 1))
    leak(syscall("bpf", 0, attributes, 72))


@attack(without_sandbox="vm.unprivileged_userfaultfd is off by default")
def handles_page_faults():
    leak(syscall("userfaultfd", 0))


@attack()
def handles_page_faults_of_its_own():
    leak(syscall("userfaultfd", 1))  # UFFD_USER_MODE_ONLY


@attack()
def makes_a_memory_file():
    leak(syscall("memfd_create", b"attack", 0))


@attack(without_sandbox="kernel.perf_event_paranoid may be above 2")
def counts_events():
    attributes = ctypes.create_string_buffer(128)
    attributes[:8] = (1).to_bytes(4, sys.byteorder) + (128).to_bytes(4, sys.byteorder)
    leak(syscall("perf_event_open", attributes, 0, -1, -1, 0))


@attack()
def changes_its_personality():
    leak(syscall("personality", 0x0040000))


@attack()
def watches_files():
    leak(syscall("inotify_init1", 0))


@attack()
def splices_pipes():
    read_end, write_end = os.pipe()
    os.write(write_end, b"x")
    leak(syscall("tee", read_end, os.pipe()[1], 1, 0))


@attack()
def replaces_the_filter():
    allow_all = ctypes.create_string_buffer(b"\x06\0\0\0\0\0\xff\x7f")
    program = (ctypes.c_ulong * 2)(1, ctypes.addressof(allow_all))
    LIBC.prctl(38, 1, 0, 0, 0)
    syscall("seccomp", 1, 0, program)
    leak("a filter of its own")


@attack(without_sandbox=NEEDS_ROOT)
def loads_a_module():
    syscall("init_module", b"", 0, b"")
    leak("loaded")


@attack(without_sandbox=NEEDS_ROOT)
def renames_the_host():
    syscall("sethostname", b"attack", 6)
    leak("renamed")


@attack(without_sandbox=NEEDS_ROOT)
def sets_the_clock():
    syscall("settimeofday", (ctypes.c_long * 2)(1, 0), None)
    leak("set")


@attack(without_sandbox="kernel.dmesg_restrict is the default of distributions")
def reads_the_kernels_log():
    buffer = ctypes.create_string_buffer(4096)
    if syscall("syslog", 3, buffer, 4096):
        leak(buffer.value[:100])


@attack(without_sandbox="other machines have no such calls")
def calls_by_32_bit_numbers():
    import mmap
    import platform

    if platform.machine() != "x86_64":
        raise OSError("no 32-bit calls on " + platform.machine())
    code = mmap.mmap(-1, 4096, prot=7)
    code.write(b"\x53\xb8\x14\x00\x00\x00\xcd\x80\x5b\xc3")  # push rbx; mov eax, 20; int 0x80; pop rbx; ret
    getpid = ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(code)))
    if getpid() == os.getpid():
        leak("a 32-bit call was served")


@attack(without_sandbox="kernels are seldom built with x32")
def calls_by_x32_numbers():
    import platform

    if platform.machine() != "x86_64":
        raise OSError("no x32 calls on " + platform.machine())
    LIBC.syscall.restype = ctypes.c_long
    result = LIBC.syscall(ctypes.c_long(0x40000000 + 39))
    leak("an x32 call was served") if result == os.getpid() else print("the kernel has no x32")
    if not HOST["bare"]:
        leak("the filter let an x32 call through to the kernel")
