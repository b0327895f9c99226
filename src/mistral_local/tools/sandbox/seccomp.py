"""The seccomp filter of the sandbox: an allow-list of system calls.

What a Python program needs is allowed; what it might try and must not do fails with EPERM, so that the program sees
a PermissionError; everything else does not exist (ENOSYS), which is what a C library that probes expects.
"""

from mistral_local.tools.sandbox import bpf
from mistral_local.tools.sandbox.syscall_numbers import AARCH64, X86_64

# Machine (as uname says) -> its AUDIT_ARCH_* and its numbers.
_MACHINES = {"x86_64": (0xC000003E, X86_64), "aarch64": (0xC00000B7, AARCH64)}
_X32_BIT = 0x40000000  # x86_64 only: the x32 twins of all calls


def _words(text: str) -> list[str]:
    return text.split()


ALLOWED = _words("""
read write readv writev pread64 pwrite64 preadv pwritev preadv2 pwritev2 open openat openat2 creat close close_range lseek
stat fstat lstat newfstatat statx access faccessat faccessat2 readlink readlinkat getdents getdents64 getcwd chdir fchdir
mkdir mkdirat rmdir unlink unlinkat rename renameat renameat2 link linkat symlink symlinkat truncate ftruncate fallocate
fsync fdatasync flock fcntl dup dup2 dup3 pipe pipe2 umask chmod fchmod fchmodat chown fchown lchown fchownat utime utimes
utimensat futimesat sendfile copy_file_range statfs fstatfs fadvise64 readahead getxattr lgetxattr fgetxattr listxattr
llistxattr flistxattr
mmap munmap mprotect mremap brk madvise msync mincore membarrier
execve exit exit_group wait4 waitid getpid getppid gettid getuid geteuid getgid getegid getgroups getresuid getresgid
getpgrp getpgid getsid getpriority getrlimit setrlimit getrusage times sysinfo uname getcpu capget arch_prctl
set_tid_address set_robust_list get_robust_list rseq futex sched_yield sched_getaffinity sched_getparam
sched_getscheduler sched_get_priority_max sched_get_priority_min sched_rr_get_interval
rt_sigaction rt_sigprocmask rt_sigreturn rt_sigpending rt_sigtimedwait rt_sigsuspend sigaltstack kill tkill tgkill pause
alarm getitimer setitimer signalfd signalfd4 restart_syscall
nanosleep clock_nanosleep clock_gettime clock_getres gettimeofday time timer_create timer_settime timer_gettime
timer_getoverrun timer_delete timerfd_create timerfd_settime timerfd_gettime
poll ppoll select pselect6 epoll_create epoll_create1 epoll_ctl epoll_wait epoll_pwait epoll_pwait2 eventfd eventfd2
sendto recvfrom sendmsg recvmsg shutdown getsockname getpeername getsockopt
getrandom
""")

REFUSED = _words("""
socket connect bind listen accept accept4 setsockopt sendmmsg recvmmsg
fork vfork execveat setsid setpgid setuid setgid setreuid setregid setresuid setresgid setfsuid setfsgid setgroups capset
setpriority ioprio_set sched_setaffinity sched_setattr sched_setparam sched_setscheduler personality seccomp
ptrace process_vm_readv process_vm_writev process_madvise process_mrelease kcmp pidfd_open pidfd_getfd pidfd_send_signal
rt_sigqueueinfo rt_tgsigqueueinfo
mount umount2 pivot_root chroot setns unshare open_tree move_mount fsopen fsconfig fsmount fspick mount_setattr swapon
swapoff quotactl quotactl_fd mknod mknodat name_to_handle_at open_by_handle_at fanotify_init fanotify_mark
inotify_init inotify_init1 inotify_add_watch inotify_rm_watch setxattr lsetxattr fsetxattr removexattr lremovexattr
fremovexattr sync syncfs acct
bpf perf_event_open userfaultfd io_uring_setup io_uring_enter io_uring_register io_setup io_submit io_destroy io_cancel
io_getevents io_pgetevents splice tee vmsplice
add_key request_key keyctl memfd_create memfd_secret shmget shmat shmdt shmctl msgget msgsnd msgrcv msgctl semget semop
semtimedop semctl mq_open mq_unlink mq_timedsend mq_timedreceive mq_notify mq_getsetattr
mlock mlock2 mlockall munlock munlockall mbind set_mempolicy migrate_pages move_pages remap_file_pages
init_module finit_module delete_module kexec_load kexec_file_load reboot syslog sethostname setdomainname
settimeofday clock_settime clock_adjtime adjtimex vhangup iopl ioperm modify_ldt lookup_dcookie nfsservctl
""")

# prctl(2), ioctl(2) and socket(2) requests that are harmless.
_SET_NAME, _GET_NAME, _GET_DUMPABLE = 15, 16, 3
_TCGETS, _FIONREAD, _FIOCLEX, _FIONCLEX, _FIONBIO, _TIOCGWINSZ = 0x5401, 0x541B, 0x5451, 0x5450, 0x5421, 0x5413
_AF_UNIX, _SOCK_STREAM = 1, 1

_CLONE_THREAD = 0x00010000
# NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET
_CLONE_NEW = 0x00020000 | 0x02000000 | 0x04000000 | 0x08000000 | 0x10000000 | 0x20000000 | 0x40000000

_ALLOW = bpf.answer(bpf.ALLOW)
_EPERM = bpf.answer(bpf.error(bpf.EPERM))
_ENOSYS = bpf.answer(bpf.error(bpf.ENOSYS))
_KILL = bpf.answer(bpf.KILL_PROCESS)


def machines() -> list[str]:
    """The machines that a filter can be built for."""
    return sorted(_MACHINES)


def filter_program(machine: str) -> bytes:
    """Assemble the filter as an array of `struct sock_filter`.

    Args:
        machine: one of `machines()`.

    A call of another architecture, or of x32, kills the process: its numbers mean other calls.
    """
    architecture, numbers = _MACHINES[machine]
    rules = {
        **dict.fromkeys(ALLOWED, _ALLOW),
        **dict.fromkeys(REFUSED, _EPERM),
        # Threads, but no processes and no namespaces.
        "clone": bpf.load_argument(0)
        + bpf.if_any_bit(_CLONE_NEW, _EPERM)
        + bpf.if_any_bit(_CLONE_THREAD, _ALLOW)
        + _EPERM,
        # Its flags lie in memory, where a filter cannot look; the C library falls back to clone.
        "clone3": _ENOSYS,
        # asyncio wakes itself through one.  Datagram pairs could send to any address.
        "socketpair": bpf.load_argument(0) + bpf.unless_equal(_AF_UNIX, _EPERM) + _only(1, [_SOCK_STREAM], mask=0xF),
        "ioctl": _only(1, [_TCGETS, _FIONREAD, _FIOCLEX, _FIONCLEX, _FIONBIO, _TIOCGWINSZ]),
        "prctl": _only(0, [_SET_NAME, _GET_NAME, _GET_DUMPABLE]),
        "prlimit64": _only(0, [0]),  # of the process itself
    }
    checks = [bpf.if_equal(numbers[name], rule) for name, rule in rules.items() if name in numbers]
    return b"".join(
        [
            bpf.load(bpf.ARCHITECTURE_OFFSET),
            bpf.unless_equal(architecture, _KILL),
            bpf.load(bpf.NUMBER_OFFSET),
            bpf.if_at_least(_X32_BIT, _KILL) if machine == "x86_64" else b"",
            *checks,
            _ENOSYS,
        ]
    )


def _only(argument: int, values: list[int], *, mask: int = 0xFFFFFFFF) -> bytes:
    """Allow the call if an argument, its low bits, has one of these values, else fail it with EPERM."""
    tests = [bpf.if_equal(value, _ALLOW) for value in values]
    return bpf.load_argument(argument) + bpf.keep_bits(mask) + b"".join(tests) + _EPERM
