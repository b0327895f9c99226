"""Ways to read or write what belongs to the host."""
# ruff: noqa: F821, SIM115  the preamble defines the names, and a program that ends closes its files

from attacks import attack


@attack()
def reads_the_password_file():
    leak(open("/etc/passwd").readline())


@attack()
def reads_a_secret_in_the_home_folder():
    leak(open(HOST["home_secret"]).read())


@attack()
def reads_a_secret_in_a_temporary_folder():
    leak(open(HOST["temporary_secret"]).read())


@attack()
def climbs_out_of_its_folder():
    leak(open("../" * 20 + HOST["home_secret"]).read())


@attack()
def lists_the_home_folders():
    if (names := os.listdir("/home")) != ["sandbox"]:
        leak(names)


@attack()
def reads_its_environment():
    if "SECRET_OF_THE_HOST" in os.environ:
        leak(os.environ["SECRET_OF_THE_HOST"])


@attack()
def reads_its_environment_from_memory():
    environ = ctypes.POINTER(ctypes.c_char_p).in_dll(LIBC, "environ")
    i = 0
    while environ[i]:
        if b"SECRET_OF_THE_HOST" in environ[i]:
            leak(environ[i])
        i += 1


@attack()
def reads_the_environment_of_its_parent():
    for pid in (os.getppid(), "self"):
        if b"SECRET_OF_THE_HOST" in open(f"/proc/{pid}/environ", "rb").read():
            leak(f"in /proc/{pid}/environ")


@attack(without_sandbox="process 1 belongs to root there")
def reads_the_environment_of_process_1():
    leak(open("/proc/1/environ", "rb").read())


@attack(without_sandbox="process 1 belongs to root there")
def mounts_its_own_proc():
    os.mkdir("proc")
    if LIBC.mount(b"proc", b"proc", b"proc", 0, None) < 0:
        raise OSError(ctypes.get_errno(), "mount")
    leak(open("proc/1/environ", "rb").read())


@attack()
def looks_at_the_hosts_processes():
    leak(len([name for name in os.listdir("/proc") if name.isdigit()]))


@attack()
def walks_through_proc_root():
    leak(os.listdir("/proc/self/root"))


@attack()
def reads_the_kernels_log_of_devices():
    leak(os.listdir("/sys/class"))


@attack()
def uses_an_inherited_descriptor():
    for descriptor in range(3, 4096):
        try:
            os.fstat(descriptor)
        except OSError:
            continue
        leak(f"descriptor {descriptor} is open")


@attack()
def writes_outside():
    with open(HOST["temporary_secret"] + ".new", "w") as file:
        file.write("x")
    leak("written")


@attack(without_sandbox="the root belongs to root there")
def writes_into_the_root():
    for folder in ("/", "/run", "/etc", "/usr", "/dev", "/dev/shm/..", "/lib"):
        try:
            os.close(os.open(folder + "/attack", os.O_CREAT | os.O_WRONLY))
        except OSError:
            continue
        leak(folder)


@attack()
def writes_into_shared_memory_files():
    os.close(os.open("/dev/shm/attack", os.O_CREAT | os.O_WRONLY))
    os.unlink("/dev/shm/attack")
    leak("written")


@attack(without_sandbox="the libraries belong to root there")
def changes_a_library():
    os.close(os.open(os.__file__, os.O_RDWR))
    leak(os.__file__)


@attack(without_sandbox="there is no runner there")
def changes_the_runner():
    for action in (lambda: os.chmod("/run/runner.py", 0o777), lambda: os.unlink("/run/runner.py")):
        try:
            action()
        except OSError:
            continue
        leak("changed")
    os.close(os.open("/run/runner.py", os.O_RDWR))
    leak("writable")


@attack(without_sandbox="the settings belong to root there")
def writes_a_setting_of_the_kernel():
    os.close(os.open("/proc/sys/kernel/core_pattern", os.O_RDWR))
    leak("core_pattern is writable")


@attack(without_sandbox="needs CAP_MKNOD")
def makes_a_device():
    os.mknod("disk", 0o60666, os.makedev(8, 0))
    leak("made")


@attack()
def starts_a_program_of_the_host():
    os.execv("/bin/echo", ["echo", "LEAK"])


@attack(without_sandbox="needs CAP_DAC_READ_SEARCH")
def opens_a_file_by_its_handle():
    handle = ctypes.create_string_buffer(8 + 128)
    handle[:4] = (128).to_bytes(4, sys.byteorder)
    mount = ctypes.c_int()
    syscall("name_to_handle_at", -100, b"/", handle, ctypes.byref(mount), 0)
    leak(syscall("open_by_handle_at", os.open("/", os.O_RDONLY), handle, 0))
