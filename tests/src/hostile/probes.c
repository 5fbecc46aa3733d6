// What a hostile agent tries, by the system calls themselves. Read by tests/tests/sandbox_matrix/outside.rs, which compiles it.
//
//   probes            reads lines `NAME<TAB>STEP | STEP | ...`, tries each in a process of its own, and prints
//                     `NAME<TAB>WORD<TAB>WHY`. The last step decides: reached, refused, unsupported (by the kernel), hung.
//   probes outside D  is what there is to be reached: sockets, memory, keys, a terminal. Prints `NAME VALUE` lines and
//                     `ready`, and takes all of it away when its standard input ends.
//   probes keys F P.. joins a new session keyring with a secret key in it, writes the key's number to F, becomes P.
//   probes try STEP   tries one step and says the secret if it is reached.
//   probes http S     sends its standard input to a socket and prints the answer.
//   probes race A B T swaps the names A and B without a pause for T milliseconds.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/bpf.h>
#include <linux/fs.h>
#include <linux/io_uring.h>
#include <linux/keyctl.h>
#include <linux/landlock.h>
#include <linux/netlink.h>
#include <linux/perf_event.h>
#include <linux/vm_sockets.h>
#include <mqueue.h>
#include <net/ethernet.h>
#include <netinet/in.h>
#include <poll.h>
#include <pty.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/fanotify.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/msg.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/reboot.h>
#include <sys/resource.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/swap.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#define CANARY "canary-4711"
#define TOUCHED "touched\n"

enum { REACHED, REFUSED, UNSUPPORTED };

static char why[512];

static int failed(const char *what) {
    int error = errno;
    snprintf(why, sizeof why, "%s: %s", what, strerror(error));
    int lacks = error == ENOSYS || error == EAFNOSUPPORT || error == EPROTONOSUPPORT || error == EOPNOTSUPP;
    // Whether there is such a file of the kernel's, or of the machine's, depends on the machine.
    const char *places[] = {"/proc/sys", "/proc/irq/", "/proc/kmsg", "/proc/kcore", "/sys/", "/dev/", "/etc/"};
    for (size_t i = 0; i < sizeof places / sizeof *places; i++)
        lacks |= error == ENOENT && !strncmp(what, places[i], strlen(places[i])) && !strstr(what, "kennel-test") && !strstr(what, "/pts/");
    return lacks ? UNSUPPORTED : REFUSED;
}
static int did(long result, const char *what) {
    if (result < 0) return failed(what);
    snprintf(why, sizeof why, "%s done", what);
    return REACHED;
}
static int said(int word, const char *text) {
    snprintf(why, sizeof why, "%s", text);
    return word;
}
static int has_canary(const char *bytes, size_t n) { return memmem(bytes, n, CANARY, strlen(CANARY)) != NULL; }

static int read_fd(int fd) {
    static char buffer[1 << 18];
    size_t n = 0;
    ssize_t got;
    while (n < sizeof buffer && (got = read(fd, buffer + n, sizeof buffer - n)) > 0) n += (size_t)got;
    if (has_canary(buffer, n)) return said(REACHED, "read the secret");
    return n == 0 ? said(REFUSED, "empty") : said(REFUSED, "something else");
}
static int do_read(char **a) {
    int fd = open(a[0], O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    return fd < 0 ? failed(a[0]) : read_fd(fd);
}
static int list_fd(int fd) {
    DIR *dir = fdopendir(fd);
    if (!dir) return failed("fdopendir");
    struct dirent *entry;
    while ((entry = readdir(dir)))
        if (strstr(entry->d_name, "canary")) return said(REACHED, entry->d_name);
    return said(REFUSED, "nothing of that name");
}
static int do_list(char **a) {
    int fd = open(a[0], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return fd < 0 ? failed(a[0]) : list_fd(fd);
}
static int do_entries(char **a) {
    DIR *dir = opendir(a[0]);
    if (!dir) return failed(a[0]);
    struct dirent *entry;
    // Names alone lead nowhere.
    while ((entry = readdir(dir))) {
        char path[PATH_MAX], to[PATH_MAX];
        snprintf(path, sizeof path, "%s/%s", a[0], entry->d_name);
        if (entry->d_name[0] != '.' && readlink(path, to, sizeof to) >= 0) return said(REACHED, entry->d_name);
    }
    return said(REFUSED, "nothing there leads anywhere");
}
static int do_anything(char **a) {
    DIR *dir = opendir(a[0]);
    if (!dir) return failed(a[0]);
    struct dirent *entry;
    while ((entry = readdir(dir)))
        if (entry->d_name[0] != '.') return said(REACHED, entry->d_name);
    return said(REFUSED, "it is empty, or looks so");
}
static int do_open(char **a) { return did(open(a[0], O_RDONLY | O_NONBLOCK | O_NOCTTY), a[0]); }
static int do_openw(char **a) { return did(open(a[0], O_WRONLY | O_NONBLOCK | O_NOCTTY), a[0]); }
static int touch_fd(int fd) {
    if (fd < 0) return failed("open");
    return did(write(fd, TOUCHED, strlen(TOUCHED)), "write");
}
static int do_write(char **a) { return touch_fd(open(a[0], O_WRONLY | O_APPEND | O_NONBLOCK)); }
static int do_create(char **a) { return touch_fd(open(a[0], O_WRONLY | O_CREAT | O_EXCL | O_NONBLOCK, 0644)); }
static int do_put(char **a) { return touch_fd(open(a[0], O_WRONLY | O_CREAT | O_NONBLOCK, 0644)); }
static int do_trunc(char **a) { return did(truncate(a[0], 0), "truncate"); }
static int do_otrunc(char **a) { return did(open(a[0], O_WRONLY | O_TRUNC), "open with O_TRUNC"); }
static int do_tmpfile(char **a) {
    int fd = open(a[0], O_TMPFILE | O_RDWR, 0644);
    if (fd < 0) return failed("O_TMPFILE");
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    return did(linkat(AT_FDCWD, path, AT_FDCWD, a[1], AT_SYMLINK_FOLLOW), "linkat");
}
static int do_mkdir(char **a) { return did(mkdir(a[0], 0755), "mkdir"); }
static int do_rmdir(char **a) { return did(rmdir(a[0]), "rmdir"); }
static int do_fifo(char **a) { return did(mknod(a[0], S_IFIFO | 0666, 0), "mknod"); }
// The null device stands for all: who can make one can make a disk.
static int do_device(char **a) {
    if (mknod(a[0], S_IFCHR | 0666, makedev(1, 5)) < 0) return failed("mknod");
    return did(open(a[0], O_RDWR), "open the device");
}
static int do_rename(char **a) { return did(rename(a[0], a[1]), "rename"); }
static int do_exchange(char **a) {
    return did(syscall(SYS_renameat2, AT_FDCWD, a[0], AT_FDCWD, a[1], RENAME_EXCHANGE), "exchange");
}
static int do_link(char **a) { return did(link(a[0], a[1]), "link"); }
static int do_symlink(char **a) { return did(symlink(a[0], a[1]), "symlink"); }
static int do_unlink(char **a) { return did(unlink(a[0]), "unlink"); }
static int do_chmod(char **a) { return did(chmod(a[0], (mode_t)strtol(a[1], NULL, 8)), "chmod"); }
static int do_chown(char **a) { return did(chown(a[0], (uid_t)atoi(a[1]), (gid_t)-1), "chown"); }
static int do_utimes(char **a) {
    struct timespec times[2] = {{12345, 0}, {12345, 0}};
    return did(utimensat(AT_FDCWD, a[0], times, 0), "utimensat");
}
static int do_xattr(char **a) { return did(setxattr(a[0], "user.touched", "x", 1, 0), "setxattr"); }
static int do_chattr(char **a) {
    int fd = open(a[0], O_RDONLY), flags = 0;
    if (fd < 0) return failed("open");
    if (ioctl(fd, FS_IOC_GETFLAGS, &flags) < 0) return failed("getflags");
    flags |= FS_NODUMP_FL;
    return did(ioctl(fd, FS_IOC_SETFLAGS, &flags), "setflags");
}
static int reopened(int fd, int flags) {
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    return open(path, flags);
}
static int do_opath(char **a) {
    int fd = open(a[0], O_PATH);
    return fd < 0 ? failed("O_PATH") : touch_fd(reopened(fd, O_WRONLY | O_APPEND));
}
static int do_roreopen(char **a) {
    int fd = open(a[0], O_RDONLY);
    return fd < 0 ? failed("open") : touch_fd(reopened(fd, O_WRONLY | O_APPEND));
}
static int do_opathchmod(char **a) {
    int fd = open(a[0], O_PATH);
    if (fd < 0) return failed("O_PATH");
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    return did(chmod(path, 0777), "chmod");
}
static int do_mmapwrite(char **a) {
    int fd = open(a[0], O_RDWR);
    if (fd < 0) return failed("open");
    char *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (p == MAP_FAILED) return failed("mmap");
    p[0] = 'T';
    return did(msync(p, 4096, MS_SYNC), "msync");
}

// Mounts.
static int do_bind(char **a) { return did(mount(a[0], a[1], NULL, MS_BIND | MS_REC, NULL), "bind"); }
static int do_bind1(char **a) { return did(mount(a[0], a[1], NULL, MS_BIND, NULL), "bind"); }
static int do_mount(char **a) { return did(mount(a[0], a[1], a[0], 0, NULL), "mount"); }
static int do_umount(char **a) { return did(umount2(a[0], 0), "umount"); }
static int do_detach(char **a) { return did(umount2(a[0], MNT_DETACH), "umount"); }
static int do_private(char **a) { return did(mount(NULL, a[0], NULL, MS_REC | MS_PRIVATE, NULL), "private"); }
static int do_remount(char **a) { return did(mount(NULL, a[0], NULL, MS_REMOUNT | MS_BIND, NULL), "remount"); }
static int do_superremount(char **a) { return did(mount(NULL, a[0], NULL, MS_REMOUNT, NULL), "remount"); }
static int do_overlay(char **a) {
    char options[PATH_MAX * 3];
    snprintf(options, sizeof options, "lowerdir=%s,upperdir=%s,workdir=%s", a[0], a[1], a[2]);
    mkdir(a[1], 0755);
    mkdir(a[2], 0755);
    return did(mount("overlay", a[3], "overlay", 0, options), "overlay");
}
struct attributes { unsigned long long set, clear, propagation, userns; };
static int do_setattr(char **a) {
    struct attributes attributes = {.clear = 1 /* MOUNT_ATTR_RDONLY */};
    return did(syscall(442, AT_FDCWD, a[0], AT_RECURSIVE, &attributes, sizeof attributes), "mount_setattr");
}
static int do_opentree(char **a) {
    int fd = (int)syscall(428, AT_FDCWD, a[0], 1 | O_CLOEXEC | AT_RECURSIVE);
    if (fd < 0) return failed("open_tree");
    return did(syscall(429, fd, "", AT_FDCWD, a[1], 4), "move_mount");
}
// The clone alone, not attached to anything, and a secret below it.
static int do_treeread(char **a) {
    int fd = (int)syscall(428, AT_FDCWD, a[0], 1 | O_CLOEXEC);
    if (fd < 0) return failed("open_tree");
    int file = openat(fd, a[1], O_RDONLY);
    return file < 0 ? failed("openat") : read_fd(file);
}
static int do_movemount(char **a) { return did(syscall(429, AT_FDCWD, a[0], AT_FDCWD, a[1], 0), "move_mount"); }
static int do_fsopen(char **a) {
    int fs = (int)syscall(430, a[0], 0);
    if (fs < 0) return failed("fsopen");
    if (syscall(431, fs, 6, NULL, NULL, 0) < 0) return failed("fsconfig");
    int fd = (int)syscall(432, fs, 0, 0);
    if (fd < 0) return failed("fsmount");
    return did(syscall(429, fd, "", AT_FDCWD, a[1], 4), "move_mount");
}
static int do_pivot(char **a) { return did(syscall(SYS_pivot_root, a[0], a[1]), "pivot_root"); }
static int do_chroot(char **a) { return did(chroot(a[0]), "chroot"); }
// Out of a chroot by a directory that was kept open.
static int do_chrootout(char **a) {
    mkdir("jail", 0755);
    int fd = open(".", O_RDONLY | O_DIRECTORY);
    if (chroot("jail") < 0) return failed("chroot");
    if (fchdir(fd) < 0) return failed("fchdir");
    for (int i = 0; i < 64; i++)
        if (chdir("..") < 0) return failed("..");
    if (chroot(".") < 0) return failed("chroot");
    return do_read(a);
}
static int put(const char *path, const char *text) {
    int fd = open(path, O_WRONLY);
    if (fd < 0) return -1;
    ssize_t n = write(fd, text, strlen(text));
    close(fd);
    return n < 0 ? -1 : 0;
}
static int kind(const char *name) {
    struct { const char *name; int flag; } kinds[] = {
        {"user", CLONE_NEWUSER}, {"mnt", CLONE_NEWNS}, {"pid", CLONE_NEWPID}, {"net", CLONE_NEWNET},
        {"ipc", CLONE_NEWIPC}, {"uts", CLONE_NEWUTS}, {"cgroup", CLONE_NEWCGROUP}, {"time", 0x80},
    };
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (!strcmp(name, kinds[i].name)) return kinds[i].flag;
    return 0;
}
static int do_unshare(char **a) {
    int flags = 0;
    uid_t user = geteuid();
    gid_t group = getegid();
    for (; *a; a++) flags |= kind(*a);
    if (unshare(flags) < 0) return failed("unshare");
    if (flags & CLONE_NEWUSER) {
        char map[64];
        put("/proc/self/setgroups", "deny");
        snprintf(map, sizeof map, "0 %d 1", user);
        if (put("/proc/self/uid_map", map) < 0) return failed("uid_map");
        snprintf(map, sizeof map, "0 %d 1", group);
        if (put("/proc/self/gid_map", map) < 0) return failed("gid_map");
    }
    if (flags & CLONE_NEWPID) {
        pid_t child = fork();
        if (child > 0) {
            int status;
            waitpid(child, &status, 0);
            _exit(WIFEXITED(status) ? WEXITSTATUS(status) : REFUSED);
        }
    }
    return said(REACHED, "unshared");
}
static int do_setns(char **a) {
    int fd = open(a[0], O_RDONLY);
    if (fd < 0) return failed(a[0]);
    struct stat theirs, ours;
    char own[64];
    const char *name = strrchr(a[0], '/') + 1;
    snprintf(own, sizeof own, "/proc/self/ns/%s", name);
    if (setns(fd, 0) < 0) return failed("setns");
    fstat(fd, &theirs);
    return stat(own, &ours) == 0 && ours.st_ino == theirs.st_ino && a[1] && atoll(a[1]) != (long long)ours.st_ino
               ? said(REFUSED, "a namespace, but not that of the outside")
               : said(REACHED, "entered");
}
static int do_pidfdns(char **a) {
    int fd = (int)syscall(SYS_pidfd_open, atoi(a[0]), 0);
    if (fd < 0) return failed("pidfd_open");
    return did(setns(fd, kind(a[1])), "setns");
}

// Processes. A process of that number that is another one counts for nothing.
static int is_process(const char *pid, const char *name) {
    // The first one of a namespace is known by its number.
    if (!strcmp(pid, "1")) return 1;
    char path[64], text[512] = {0};
    snprintf(path, sizeof path, "/proc/%s/cmdline", pid);
    int fd = open(path, O_RDONLY);
    if (fd < 0) return 0;
    ssize_t n = read(fd, text, sizeof text - 1);
    close(fd);
    return n > 0 && memmem(text, (size_t)n, name, strlen(name)) != NULL;
}
static int do_kill(char **a) {
    if (kill(atoi(a[0]), atoi(a[2])) < 0) return failed("kill");
    return is_process(a[0], a[1]) || atoi(a[2]) == SIGKILL ? said(REACHED, "signalled") : said(REFUSED, "another process");
}
static int do_pidfdkill(char **a) {
    int fd = (int)syscall(SYS_pidfd_open, atoi(a[0]), 0);
    if (fd < 0) return failed("pidfd_open");
    if (!is_process(a[0], a[1])) return said(REFUSED, "another process");
    return did(syscall(SYS_pidfd_send_signal, fd, 0, NULL, 0), "pidfd_send_signal");
}
static int do_seen(char **a) {
    return is_process(a[0], a[1]) ? said(REACHED, "it is seen") : said(REFUSED, "no such process is seen");
}
static int do_ptrace(char **a) {
    if (!is_process(a[0], a[1])) return said(REFUSED, "no such process is seen");
    return did(ptrace(PTRACE_SEIZE, atoi(a[0]), 0, 0), "PTRACE_SEIZE");
}
static int vm(char **a, int writes) {
    if (!is_process(a[0], a[1])) return said(REFUSED, "no such process is seen");
    char byte = 0;
    // An address that nothing has: whoever may read is told that, whoever may not is told so before.
    struct iovec local = {&byte, 1}, remote = {(void *)16, 1};
    long n = writes ? process_vm_writev(atoi(a[0]), &local, 1, &remote, 1, 0)
                    : process_vm_readv(atoi(a[0]), &local, 1, &remote, 1, 0);
    return n < 0 && errno != EFAULT ? failed("process_vm") : said(REACHED, "its memory is open");
}
static int do_vmread(char **a) { return vm(a, 0); }
static int do_vmwrite(char **a) { return vm(a, 1); }
static int do_getfd(char **a) {
    if (!is_process(a[0], a[1])) return said(REFUSED, "no such process is seen");
    int fd = (int)syscall(SYS_pidfd_open, atoi(a[0]), 0);
    if (fd < 0) return failed("pidfd_open");
    for (int n = 0; n < 64; n++)
        if (syscall(438, fd, n, 0) >= 0) return said(REACHED, "took a descriptor");
    return failed("pidfd_getfd");
}
static int do_kcmp(char **a) {
    if (!is_process(a[0], a[1])) return said(REFUSED, "no such process is seen");
    return did(syscall(SYS_kcmp, getpid(), atoi(a[0]), 2, 0, 0), "kcmp");
}
static int do_prlimit(char **a) {
    if (!is_process(a[0], a[1])) return said(REFUSED, "no such process is seen");
    struct rlimit limit;
    if (prlimit(atoi(a[0]), RLIMIT_CORE, NULL, &limit) < 0) return failed("prlimit");
    return did(prlimit(atoi(a[0]), RLIMIT_CORE, &limit, NULL), "prlimit");
}
static int do_affinity(char **a) {
    if (!is_process(a[0], a[1])) return said(REFUSED, "no such process is seen");
    cpu_set_t set;
    if (sched_getaffinity(atoi(a[0]), sizeof set, &set) < 0) return failed("sched_getaffinity");
    return did(sched_setaffinity(atoi(a[0]), sizeof set, &set), "sched_setaffinity");
}
static int do_renice(char **a) {
    if (!is_process(a[0], a[1])) return said(REFUSED, "no such process is seen");
    return did(setpriority(PRIO_PROCESS, (id_t)atoi(a[0]), 19), "setpriority");
}
static int do_nicer(char **a) { (void)a; return did(setpriority(PRIO_PROCESS, 0, -10), "setpriority"); }
static int do_rtprio(char **a) {
    (void)a;
    struct sched_param param = {.sched_priority = 10};
    return did(sched_setscheduler(0, SCHED_FIFO, &param), "SCHED_FIFO");
}
static int do_ioprio(char **a) {
    (void)a;
    return did(syscall(SYS_ioprio_set, 1, 0, 1 << 13), "real-time I/O priority");
}
static int do_rlimitup(char **a) {
    (void)a;
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_max += 1000;
    return did(setrlimit(RLIMIT_NOFILE, &limit), "setrlimit");
}
static int do_oomscore(char **a) { (void)a; return did(put("/proc/self/oom_score_adj", "-500"), "oom_score_adj"); }

// Descriptors.
static int do_fds(char **a) {
    (void)a;
    char text[400] = {0};
    int found = 0;
    for (int fd = 3; fd < 1024; fd++) {
        char path[64], to[PATH_MAX] = {0};
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
        // The two pipes of this program itself are named to it.
        if (fcntl(fd, F_GETFD) < 0 || (fcntl(fd, F_GETFD) & FD_CLOEXEC)) continue;
        if (readlink(path, to, sizeof to - 1) < 0) continue;
        size_t n = strlen(text);
        snprintf(text + n, sizeof text - n, "%d=%s ", fd, to);
        found = 1;
    }
    return found ? said(REACHED, text) : said(REFUSED, "nothing beside 0, 1 and 2");
}
static int do_fdescape(char **a) {
    for (int fd = 0; fd < 1024; fd++) {
        if (fcntl(fd, F_GETFD) < 0) continue;
        int below = openat(fd, a[0], O_RDONLY);
        if (below >= 0) return read_fd(below);
        if (fchdir(fd) == 0) {
            char path[PATH_MAX];
            snprintf(path, sizeof path, "../../../../../../../..%s", a[1]);
            int file = open(path, O_RDONLY);
            if (file >= 0 && read_fd(file) == REACHED) return REACHED;
        }
    }
    return said(REFUSED, "no descriptor leads out");
}
// The session's log is what standard error is, or was: a pipe can be written to and not be changed.
static int do_reopen(char **a) {
    char path[64], to[PATH_MAX] = {0};
    snprintf(path, sizeof path, "/proc/self/fd/%s", a[0]);
    if (readlink(path, to, sizeof to - 1) < 0) return failed("readlink");
    struct stat stat;
    if (fstat(atoi(a[0]), &stat) == 0 && !S_ISREG(stat.st_mode)) return said(REFUSED, to);
    return did(open(path, O_RDWR | (a[1] ? O_TRUNC : 0)), to);
}
static int do_truncfd(char **a) {
    struct stat stat;
    if (fstat(atoi(a[0]), &stat) == 0 && !S_ISREG(stat.st_mode)) return said(REFUSED, "no file");
    return did(ftruncate(atoi(a[0]), 0), "ftruncate");
}
static int do_seekfd(char **a) {
    struct stat stat;
    if (fstat(atoi(a[0]), &stat) == 0 && !S_ISREG(stat.st_mode)) return said(REFUSED, "no file");
    int flags = fcntl(atoi(a[0]), F_GETFL);
    if (fcntl(atoi(a[0]), F_SETFL, flags & ~O_APPEND) < 0) return failed("F_SETFL");
    if (lseek(atoi(a[0]), 0, SEEK_SET) < 0) return failed("lseek");
    return did(write(atoi(a[0]), "forged\n", 7), "write over the log's beginning");
}
static int do_procfds(char **a) {
    // Every descriptor of a process: opened again, to write, and told a lie that the worker might believe.
    DIR *dir = opendir(a[0]);
    if (!dir) return failed(a[0]);
    struct dirent *entry;
    char text[400] = {0};
    while ((entry = readdir(dir))) {
        char path[PATH_MAX], to[PATH_MAX] = {0};
        if (entry->d_name[0] == '.') continue;
        snprintf(path, sizeof path, "%s/%s", a[0], entry->d_name);
        if (readlink(path, to, sizeof to - 1) < 0) continue;
        if (!strcmp(to, "/dev/null") || strstr(to, "anon_inode")) continue;
        int fd = open(path, (strncmp(to, "pipe:", 5) ? O_RDONLY : O_WRONLY) | O_NONBLOCK);
        if (fd < 0) continue;
        if (!strncmp(to, "pipe:", 5)) {
            dprintf(fd, "+%s %s 1\n", a[1], a[1]);
        }
        size_t n = strlen(text);
        snprintf(text + n, sizeof text - n, "%s=%s ", entry->d_name, to);
        close(fd);
    }
    return text[0] ? said(REACHED, text) : said(REFUSED, "nothing can be opened");
}

// Sockets.
static int unix_to(const char *path, int abstract, int ask) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    size_t n = strlen(path);
    if (n + 1 >= sizeof address.sun_path) return said(REFUSED, "too long a path");
    memcpy(address.sun_path + abstract, path, n);
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    if (fd < 0) return failed("socket");
    socklen_t length = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + (size_t)abstract + n + (abstract ? 0 : 1));
    if (connect(fd, (struct sockaddr *)&address, length) < 0) return failed("connect");
    if (!ask) return said(REACHED, "connected");
    const char *question = "GET /v1/sessions HTTP/1.1\r\nHost: kennel\r\nConnection: close\r\n\r\n";
    if (write(fd, question, strlen(question)) < 0) return failed("write");
    char answer[64] = {0};
    if (read(fd, answer, sizeof answer - 1) <= 0) return failed("no answer");
    return strstr(answer, " 200") ? said(REACHED, "heard as the owner") : said(REFUSED, answer);
}
static int do_unix(char **a) { return unix_to(a[0], 0, 0); }
static int do_ask(char **a) { return unix_to(a[0], 0, 1); }
static int do_abstract(char **a) { return unix_to(a[0], 1, 0); }
// By way of a descriptor: the path is short, whatever it leads to.
static int do_unixfd(char **a) {
    int fd = open(a[0], O_PATH);
    if (fd < 0) return failed("O_PATH");
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    return unix_to(path, 0, 0);
}
static int do_dgram(char **a) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    strncpy(address.sun_path, a[0], sizeof address.sun_path - 1);
    int fd = socket(AF_UNIX, SOCK_DGRAM, 0);
    return did(sendto(fd, "x", 1, 0, (struct sockaddr *)&address, sizeof address), "sendto");
}
static int do_tcp(char **a) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(a[0]))};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (fd < 0) return failed("socket");
    return did(connect(fd, (struct sockaddr *)&address, sizeof address), "connect");
}
static int do_tcp6(char **a) {
    if (!strcmp(a[0], "0")) return said(UNSUPPORTED, "no IPv6 here");
    struct sockaddr_in6 address = {.sin6_family = AF_INET6, .sin6_port = htons((uint16_t)atoi(a[0]))};
    address.sin6_addr = in6addr_loopback;
    int fd = socket(AF_INET6, SOCK_STREAM, 0);
    if (fd < 0) return failed("socket");
    return did(connect(fd, (struct sockaddr *)&address, sizeof address), "connect");
}
static int do_udp(char **a) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(a[0]))};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    struct timeval wait = {.tv_usec = 300000};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait);
    if (fd < 0) return failed("socket");
    if (sendto(fd, "x", 1, 0, (struct sockaddr *)&address, sizeof address) < 0) return failed("sendto");
    char byte;
    return did(recv(fd, &byte, 1, 0), "recv");
}
static int do_raw(char **a) { (void)a; return did(socket(AF_INET, SOCK_RAW, IPPROTO_ICMP), "raw socket"); }
static int do_packet(char **a) { (void)a; return did(socket(AF_PACKET, SOCK_RAW, htons(ETH_P_ALL)), "packet socket"); }
static int do_vsock(char **a) {
    (void)a;
    int fd = socket(AF_VSOCK, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (fd < 0) return failed("socket");
    struct sockaddr_vm address = {.svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_HOST, .svm_port = 1};
    int done = connect(fd, (struct sockaddr *)&address, sizeof address);
    // Refused by the host's side, or under way: it was reached.
    if (done < 0 && errno != EINPROGRESS && errno != ECONNRESET && errno != ECONNREFUSED) return failed("connect");
    return said(REACHED, "on its way to the host");
}
// Changes of the machine's network are of interest, and those of an own network are not.
static int do_netlink(char **a) {
    struct stat own;
    if (stat("/proc/self/ns/net", &own) < 0) return failed("ns/net");
    if ((long long)own.st_ino != atoll(a[0])) return said(REFUSED, "an own network");
    return did(socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE), "netlink of the machine");
}
static int do_interfaces(char **a) {
    struct stat own;
    if (stat("/proc/self/ns/net", &own) < 0) return failed("ns/net");
    return (long long)own.st_ino == atoll(a[0]) ? said(REACHED, "the machine's network") : said(REFUSED, "an own network");
}
static int do_samens(char **a) {
    char path[64];
    struct stat own;
    snprintf(path, sizeof path, "/proc/self/ns/%s", a[0]);
    if (stat(path, &own) < 0) return failed(path);
    return (long long)own.st_ino == atoll(a[1]) ? said(REACHED, "that of the outside") : said(REFUSED, "an own one");
}

// Memory and messages that processes share.
static int do_shm(char **a) {
    char *p = shmat(atoi(a[0]), NULL, SHM_RDONLY);
    if (p == (void *)-1) return failed("shmat");
    return has_canary(p, 64) ? said(REACHED, "read the secret") : said(REFUSED, "another one");
}
static int do_sem(char **a) {
    int value = semctl(atoi(a[0]), 0, GETVAL);
    if (value < 0) return failed("semctl");
    return value == 4711 ? said(REACHED, "read it") : said(REFUSED, "another one");
}
static int do_msg(char **a) {
    struct { long type; char text[64]; } message = {0};
    long n = msgrcv(atoi(a[0]), &message, sizeof message.text, 0, IPC_NOWAIT | MSG_COPY);
    if (n < 0) return failed("msgrcv");
    return has_canary(message.text, (size_t)n) ? said(REACHED, "read the secret") : said(REFUSED, "another one");
}
static int do_mq(char **a) {
    mqd_t queue = mq_open(a[0], O_RDONLY | O_NONBLOCK);
    return queue == (mqd_t)-1 ? failed("mq_open") : said(REACHED, "opened it");
}
static int do_mqueuefs(char **a) {
    mkdir("mqueue", 0755);
    if (mount("mqueue", "mqueue", "mqueue", 0, NULL) < 0) return failed("mount");
    char path[128];
    snprintf(path, sizeof path, "mqueue%s", a[0]);
    return did(open(path, O_RDONLY | O_NONBLOCK), "open");
}

// Keys.
static int do_keyread(char **a) {
    char text[64];
    long n = syscall(SYS_keyctl, KEYCTL_READ, atol(a[0]), text, sizeof text);
    if (n < 0) return failed("KEYCTL_READ");
    return has_canary(text, (size_t)n) ? said(REACHED, "read the secret") : said(REFUSED, "another key");
}
static int do_keysearch(char **a) {
    long key = syscall(SYS_keyctl, KEYCTL_SEARCH, atol(a[0]), "user", a[1], 0);
    if (key < 0) return failed("KEYCTL_SEARCH");
    char number[32];
    snprintf(number, sizeof number, "%ld", key);
    return do_keyread((char *[]){number, NULL});
}
static int do_keyrequest(char **a) {
    long key = syscall(SYS_request_key, "user", a[0], NULL, 0);
    if (key < 0) return failed("request_key");
    char number[32];
    snprintf(number, sizeof number, "%ld", key);
    return do_keyread((char *[]){number, NULL});
}
static int do_keyupdate(char **a) {
    return did(syscall(SYS_keyctl, KEYCTL_UPDATE, atol(a[0]), CANARY "!", strlen(CANARY) + 1), "KEYCTL_UPDATE");
}
static int do_keydescribe(char **a) {
    char text[128];
    return did(syscall(SYS_keyctl, KEYCTL_DESCRIBE, atol(a[0]), text, sizeof text), "KEYCTL_DESCRIBE");
}
static int do_keylink(char **a) {
    return did(syscall(SYS_keyctl, KEYCTL_LINK, atol(a[0]), (long)KEY_SPEC_PROCESS_KEYRING), "KEYCTL_LINK");
}
// Whether a key that is added there is one that the outside finds: its number is told, and the test looks.
static int do_keyadd(char **a) {
    long key = syscall(SYS_add_key, "user", a[1], TOUCHED, strlen(TOUCHED), atol(a[0]));
    if (key < 0) return failed("add_key");
    char text[64];
    snprintf(text, sizeof text, "key %ld", key);
    return said(REACHED, text);
}
static int do_joinsession(char **a) {
    return did(syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, a[0]), "KEYCTL_JOIN_SESSION_KEYRING");
}
static int do_parentkeyring(char **a) { (void)a; return did(syscall(SYS_keyctl, KEYCTL_SESSION_TO_PARENT), "KEYCTL_SESSION_TO_PARENT"); }

// io_uring: the same system calls by another door.
static int ring_do(struct io_uring_sqe *sqe, int *result) {
    struct io_uring_params params = {0};
    int ring = (int)syscall(SYS_io_uring_setup, 4, &params);
    if (ring < 0) {
        // There is none for anybody, or not here.
        errno = ENOSYS;
        return -1;
    }
    char *sq = mmap(NULL, params.sq_off.array + params.sq_entries * 4, PROT_READ | PROT_WRITE, MAP_SHARED, ring, IORING_OFF_SQ_RING);
    char *cq = mmap(NULL, params.cq_off.cqes + params.cq_entries * sizeof(struct io_uring_cqe), PROT_READ | PROT_WRITE, MAP_SHARED, ring, IORING_OFF_CQ_RING);
    struct io_uring_sqe *sqes = mmap(NULL, params.sq_entries * sizeof *sqes, PROT_READ | PROT_WRITE, MAP_SHARED, ring, IORING_OFF_SQES);
    if (sq == MAP_FAILED || cq == MAP_FAILED || sqes == MAP_FAILED) return -1;
    sqes[0] = *sqe;
    ((unsigned *)(sq + params.sq_off.array))[0] = 0;
    __atomic_store_n((unsigned *)(sq + params.sq_off.tail), 1, __ATOMIC_RELEASE);
    if (syscall(SYS_io_uring_enter, ring, 1, 1, IORING_ENTER_GETEVENTS, NULL, 0) < 0) return -1;
    *result = ((struct io_uring_cqe *)(cq + params.cq_off.cqes))[0].res;
    return 0;
}
static int do_uringread(char **a) {
    struct io_uring_sqe sqe = {.opcode = IORING_OP_OPENAT, .fd = AT_FDCWD, .addr = (unsigned long)a[0], .open_flags = O_RDONLY};
    int fd;
    if (ring_do(&sqe, &fd) < 0) return failed("io_uring");
    if (fd < 0) { errno = -fd; return failed("openat by the ring"); }
    return read_fd(fd);
}
static int do_uringwrite(char **a) {
    struct io_uring_sqe sqe = {.opcode = IORING_OP_OPENAT, .fd = AT_FDCWD, .addr = (unsigned long)a[0], .open_flags = O_WRONLY | O_APPEND};
    int fd;
    if (ring_do(&sqe, &fd) < 0) return failed("io_uring");
    if (fd < 0) errno = -fd;
    return touch_fd(fd);
}
static int do_uringunix(char **a) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    size_t n = strlen(a[0]);
    memcpy(address.sun_path + 1, a[0], n);
    int fd = socket(AF_UNIX, SOCK_STREAM, 0), done;
    struct io_uring_sqe sqe = {.opcode = IORING_OP_CONNECT, .fd = fd, .addr = (unsigned long)&address,
        .off = offsetof(struct sockaddr_un, sun_path) + 1 + n};
    if (ring_do(&sqe, &done) < 0) return failed("io_uring");
    if (done < 0) errno = -done;
    return did(done, "connect by the ring");
}
static int do_uringlink(char **a) {
    struct io_uring_sqe sqe = {.opcode = IORING_OP_RENAMEAT, .fd = AT_FDCWD, .addr = (unsigned long)a[0], .len = (unsigned)AT_FDCWD, .addr2 = (unsigned long)a[1]};
    int done;
    if (ring_do(&sqe, &done) < 0) return failed("io_uring");
    if (done < 0) errno = -done;
    return did(done, "rename by the ring");
}

// The kernel itself.
static int do_uffd(char **a) { (void)a; return did(syscall(SYS_userfaultfd, O_CLOEXEC), "userfaultfd of kernel faults"); }
static int do_bpf(char **a) {
    (void)a;
    union bpf_attr attr = {.map_type = BPF_MAP_TYPE_ARRAY, .key_size = 4, .value_size = 4, .max_entries = 1};
    return did(syscall(SYS_bpf, BPF_MAP_CREATE, &attr, sizeof attr), "bpf");
}
static int do_bpfprog(char **a) {
    (void)a;
    unsigned id = 0;
    union bpf_attr attr = {.start_id = id};
    int done = (int)syscall(SYS_bpf, BPF_PROG_GET_NEXT_ID, &attr, sizeof attr);
    if (done < 0 && errno == ENOENT) return said(REACHED, "may look at the kernel's programs");
    return did(done, "bpf");
}
static int do_perf(char **a) {
    struct perf_event_attr attr = {.type = PERF_TYPE_SOFTWARE, .size = sizeof attr, .config = PERF_COUNT_SW_CPU_CLOCK};
    return did(syscall(SYS_perf_event_open, &attr, a[0] ? atoi(a[0]) : -1, a[0] ? -1 : 0, -1, 0), "perf_event_open");
}
// All of these ask for the right before they look at what they are given: nothing is changed.
static int right(long result, const char *what) {
    if (result < 0 && (errno == EPERM || errno == EACCES || errno == ENOSYS)) return failed(what);
    return said(REACHED, what);
}
static int do_kexec(char **a) { (void)a; return right(syscall(SYS_kexec_load, 0, 0, NULL, ~0UL), "may load a kernel"); }
static int do_module(char **a) { (void)a; return right(syscall(SYS_init_module, NULL, 0, ""), "may load a module"); }
static int do_finitmodule(char **a) { (void)a; return right(syscall(SYS_finit_module, -1, "", 0), "may load a module"); }
static int do_delmodule(char **a) { (void)a; return right(syscall(SYS_delete_module, "canary_none", O_NONBLOCK), "may remove a module"); }
static int do_reboot(char **a) { (void)a; return right(syscall(SYS_reboot, 1, 2, 3, NULL), "may restart the machine"); }
static int do_swapon(char **a) { (void)a; return right(swapon("/nonexistent", 0), "may swap"); }
static int do_swapoff(char **a) { (void)a; return right(swapoff("/nonexistent"), "may stop swapping"); }
static int do_acct(char **a) { (void)a; return right(acct("/nonexistent"), "may account"); }
static int do_syslog(char **a) { (void)a; return right(syscall(SYS_syslog, 2, NULL, -1), "may read the kernel's log"); }
static int do_iopl(char **a) {
    (void)a;
#ifdef SYS_iopl
    return did(syscall(SYS_iopl, 3), "iopl");
#else
    return said(UNSUPPORTED, "no such call here");
#endif
}
static int do_settime(char **a) {
    (void)a;
    // An impossible nanosecond is looked at after the right.
    struct timespec now;
    struct timeval unchanged;
    clock_gettime(CLOCK_REALTIME, &now);
    unchanged.tv_sec = now.tv_sec;
    unchanged.tv_usec = now.tv_nsec / 1000;
    (void)unchanged;
    struct timezone zone = {0, 0};
    return did(syscall(SYS_settimeofday, NULL, &zone), "settimeofday");
}
static int do_hostname(char **a) {
    struct stat own;
    char name[256];
    if (stat("/proc/self/ns/uts", &own) < 0) return failed("ns/uts");
    if ((long long)own.st_ino != atoll(a[0])) return said(REFUSED, "a name of its own");
    gethostname(name, sizeof name);
    return did(sethostname(name, strlen(name)), "sethostname");
}
static int do_inotify(char **a) { return did(inotify_add_watch(inotify_init(), a[0], IN_ALL_EVENTS), "inotify"); }
static int do_fanotify(char **a) {
    int fd = fanotify_init(FAN_CLASS_NOTIF, O_RDONLY);
    if (fd < 0) return failed("fanotify_init");
    return did(fanotify_mark(fd, FAN_MARK_ADD | (a[1] ? FAN_MARK_FILESYSTEM : FAN_MARK_MOUNT), FAN_OPEN, AT_FDCWD, a[0]), "fanotify_mark");
}
// The handle was made outside: it needs no path.
static int do_handle(char **a) {
    struct { struct file_handle handle; unsigned char bytes[128]; } handle;
    unsigned length;
    int type;
    char hex[300] = {0};
    if (sscanf(a[0], "%u:%d:%280s", &length, &type, hex) != 3) return said(UNSUPPORTED, "no handles here");
    handle.handle.handle_bytes = length;
    handle.handle.handle_type = type;
    for (unsigned i = 0; i < length; i++) sscanf(hex + 2 * i, "%2hhx", handle.handle.f_handle + i);
    int mount = open(a[1], O_RDONLY | O_DIRECTORY);
    if (mount < 0) return failed("open the mount");
    int fd = open_by_handle_at(mount, &handle.handle, O_RDONLY);
    return fd < 0 ? failed("open_by_handle_at") : read_fd(fd);
}
static int do_secretmem(char **a) { (void)a; return did(syscall(447, 0), "memfd_secret"); }
static int do_pty(char **a) {
    int fd = open(a[0], O_RDWR | O_NOCTTY | O_NONBLOCK);
    if (fd < 0) return failed(a[0]);
    struct winsize size;
    if (ioctl(fd, TIOCGWINSZ, &size) < 0) return failed("TIOCGWINSZ");
    return size.ws_row == 77 && size.ws_col == 33 ? said(REACHED, "the terminal of the outside") : said(REFUSED, "another terminal");
}
static int do_tiocsti(char **a) {
    int fd = open(a[0], O_RDWR | O_NOCTTY | O_NONBLOCK);
    if (fd < 0) return failed(a[0]);
    struct winsize size;
    if (ioctl(fd, TIOCGWINSZ, &size) < 0) return failed("TIOCGWINSZ");
    if (size.ws_row != 77) return said(REFUSED, "another terminal");
    return did(ioctl(fd, TIOCSTI, "x"), "TIOCSTI");
}
static int do_ctty(char **a) {
    if (setsid() < 0 && errno != EPERM) return failed("setsid");
    int fd = open(a[0], O_RDWR | O_NONBLOCK);
    if (fd < 0) return failed(a[0]);
    struct winsize size;
    if (ioctl(fd, TIOCGWINSZ, &size) < 0 || size.ws_row != 77) return said(REFUSED, "another terminal");
    return did(ioctl(fd, TIOCSCTTY, 0), "TIOCSCTTY");
}
static int do_devpts(char **a) {
    // A new view of the machine's terminals, where the old instance can be mounted.
    mkdir("devpts", 0755);
    if (mount("devpts", "devpts", "devpts", 0, NULL) < 0) return failed("mount");
    char path[PATH_MAX];
    snprintf(path, sizeof path, "devpts/%s", strrchr(a[0], '/') + 1);
    return do_pty((char *[]){path, NULL});
}

// What is to work: a sandbox of the agent's own, and its own rules of Landlock.
static int do_nest(char **a) {
    (void)a;
    if (do_unshare((char *[]){"user", "mnt", NULL}) != REACHED) return REFUSED;
    mkdir("nest", 0755);
    return did(mount("tmpfs", "nest", "tmpfs", 0, NULL), "mount in a namespace of its own");
}
static int do_landlock(char **a) {
    (void)a;
    struct { unsigned long long fs; } ruleset = {LANDLOCK_ACCESS_FS_EXECUTE};
    int fd = (int)syscall(444, &ruleset, sizeof ruleset, 0);
    if (fd < 0) return failed("landlock_create_ruleset");
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0) return failed("no_new_privs");
    return did(syscall(446, fd, 0), "landlock_restrict_self");
}
static int do_dumpable(char **a) {
    // Whether the process of that number lets others look at its memory, as /proc says it.
    char path[64];
    snprintf(path, sizeof path, "/proc/%s/%s", a[0], a[1]);
    int fd = open(path, O_RDONLY);
    if (fd < 0) return failed(path);
    char byte;
    return read(fd, &byte, 1) == 1 ? said(REACHED, "read") : failed("read");
}
static int do_follow(char **a) {
    char to[PATH_MAX] = {0};
    return did(readlink(a[0], to, sizeof to - 1), to[0] ? to : "readlink");
}
// Runs a command: reached if it says the secret.
static int do_spawn(char **a) {
    int out[2];
    if (pipe2(out, O_CLOEXEC) < 0) return failed("pipe");
    pid_t child = fork();
    if (child == 0) {
        int nothing = open("/dev/null", O_RDWR);
        dup2(nothing, 0);
        dup2(out[1], 1);
        dup2(out[1], 2);
        execvp(a[0], a);
        _exit(127);
    }
    close(out[1]);
    static char buffer[1 << 16];
    size_t n = 0;
    ssize_t got;
    while (n < sizeof buffer && (got = read(out[0], buffer + n, sizeof buffer - n)) > 0) n += (size_t)got;
    int status;
    waitpid(child, &status, 0);
    if (has_canary(buffer, n)) return said(REACHED, "the command said the secret");
    for (size_t i = 0; i < n; i++)
        if (buffer[i] == '\n' || buffer[i] == '\t') buffer[i] = ' ';
    snprintf(why, sizeof why, "%.*s", (int)(n < 300 ? n : 300), buffer);
    return REFUSED;
}
static int do_env(char **a) { return did(setenv(a[0], a[1], 1), "setenv"); }
static int do_cd(char **a) { return did(chdir(a[0]), "chdir"); }
static int do_umask(char **a) { umask((mode_t)strtol(a[0], NULL, 8)); return REACHED; }

static int do_mountopt(char **a) { return did(mount(a[0], a[1], a[0], 0, a[2]), "mount"); }
// Whether a program that is another user's by its mode becomes that user.
static int do_newprivs(char **a) {
    (void)a;
    int set = prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0);
    return set == 1 ? said(REFUSED, "no new privileges") : said(REACHED, "programs may give rights");
}
static int do_openpty(char **a) {
    (void)a;
    int master, slave;
    if (openpty(&master, &slave, NULL, NULL, NULL) < 0) return failed("openpty");
    if (write(master, "x\n", 2) < 0) return failed("write");
    return said(REACHED, "a terminal of its own");
}
// Rights over what was not made within: those of the first user namespace.
static int do_rights(char **a) {
    struct stat own;
    char text[4096] = {0};
    int fd = open("/proc/self/status", O_RDONLY);
    if (fd < 0 || read(fd, text, sizeof text - 1) < 0) return failed("status");
    char *at = strstr(text, "CapEff:");
    unsigned long long rights = at ? strtoull(at + 7, NULL, 16) : 0;
    if (stat("/proc/self/ns/user", &own) < 0) return failed("ns/user");
    if ((long long)own.st_ino != atoll(a[0])) return said(REFUSED, "rights over a namespace of its own at most");
    return rights ? said(REACHED, "rights over the machine") : said(REFUSED, "no rights");
}
static int do_fchmod(char **a) {
    int fd = open(a[0], O_RDONLY);
    return fd < 0 ? failed("open") : did(fchmod(fd, 0777), "fchmod");
}
static int do_futimes(char **a) {
    int fd = open(a[0], O_RDONLY);
    return fd < 0 ? failed("open") : did(futimens(fd, NULL), "futimens");
}
static int do_fxattr(char **a) {
    int fd = open(a[0], O_RDONLY);
    return fd < 0 ? failed("open") : did(fsetxattr(fd, "user.touched", "x", 1, 0), "fsetxattr");
}
static int do_fallocate(char **a) {
    int fd = open(a[0], O_WRONLY);
    return fd < 0 ? failed("open") : did(fallocate(fd, 0, 0, 4096), "fallocate");
}
static int do_opathhere(char **a) {
    // The parent of a descriptor, step by step.
    int fd = open(".", O_PATH | O_DIRECTORY);
    for (int i = 0; i < 16 && fd >= 0; i++) fd = openat(fd, "..", O_PATH | O_DIRECTORY);
    if (fd < 0) return failed("..");
    int file = openat(fd, a[0] + 1, O_RDONLY);
    return file < 0 ? failed("openat") : read_fd(file);
}
static int do_exchangedir(char **a) {
    // A directory of its own in the place of what hides.
    mkdir("decoy", 0755);
    if (syscall(SYS_renameat2, AT_FDCWD, "decoy", AT_FDCWD, a[0], RENAME_EXCHANGE) < 0) return failed("exchange");
    return do_read(a + 1);
}
static int do_connector(char **a) {
    // What all processes of the machine do.
    struct stat own;
    if (stat("/proc/self/ns/net", &own) < 0) return failed("ns/net");
    int fd = socket(AF_NETLINK, SOCK_DGRAM, NETLINK_CONNECTOR);
    if (fd < 0) return failed("socket");
    struct sockaddr_nl address = {.nl_family = AF_NETLINK, .nl_groups = 1};
    if (bind(fd, (struct sockaddr *)&address, sizeof address) < 0) return failed("bind");
    return (long long)own.st_ino == atoll(a[0]) ? said(REACHED, "hears of all processes") : said(REFUSED, "an own network");
}
static int do_uringsqpoll(char **a) {
    // A thread of the kernel's that goes on when its process is gone, or runs with other rights.
    struct io_uring_params params = {.flags = IORING_SETUP_SQPOLL};
    int ring = (int)syscall(SYS_io_uring_setup, 4, &params);
    if (ring < 0) return failed("io_uring");
    return do_read(a);
}
static int do_uringmkdir(char **a) {
    struct io_uring_sqe sqe = {.opcode = IORING_OP_MKDIRAT, .fd = AT_FDCWD, .addr = (unsigned long)a[0], .len = 0755};
    int done;
    if (ring_do(&sqe, &done) < 0) return failed("io_uring");
    if (done < 0) errno = -done;
    return did(done, "mkdir by the ring");
}
static int do_uringunlink(char **a) {
    struct io_uring_sqe sqe = {.opcode = IORING_OP_UNLINKAT, .fd = AT_FDCWD, .addr = (unsigned long)a[0]};
    int done;
    if (ring_do(&sqe, &done) < 0) return failed("io_uring");
    if (done < 0) errno = -done;
    return did(done, "unlink by the ring");
}
static int do_uringsocket(char **a) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(a[0]))};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM, 0), done;
    struct io_uring_sqe sqe = {.opcode = IORING_OP_CONNECT, .fd = fd, .addr = (unsigned long)&address, .off = sizeof address};
    if (ring_do(&sqe, &done) < 0) return failed("io_uring");
    if (done < 0) errno = -done;
    return did(done, "connect by the ring");
}

// A socket that the ring makes: no filter of system calls sees it.
static int ring_socket(int family, int type, int protocol) {
    struct io_uring_sqe sqe = {.opcode = 45 /* IORING_OP_SOCKET */, .fd = family, .off = (unsigned long long)type, .len = (unsigned)protocol};
    int fd;
    if (ring_do(&sqe, &fd) < 0) return -1;
    if (fd < 0) { errno = -fd; return -1; }
    return fd;
}
static int do_uringvsock(char **a) {
    (void)a;
    int fd = ring_socket(AF_VSOCK, SOCK_STREAM, 0);
    return did(fd, "a socket to the host by the ring");
}
static int do_uringconnector(char **a) {
    int fd = ring_socket(AF_NETLINK, SOCK_DGRAM, NETLINK_CONNECTOR);
    if (fd < 0) return failed("socket by the ring");
    struct stat own;
    struct sockaddr_nl address = {.nl_family = AF_NETLINK, .nl_groups = 1};
    if (stat("/proc/self/ns/net", &own) < 0 || bind(fd, (struct sockaddr *)&address, sizeof address) < 0) return failed("bind");
    return (long long)own.st_ino == atoll(a[0]) ? said(REACHED, "hears of all processes") : said(REFUSED, "an own network");
}
static int do_uringpacket(char **a) { (void)a; return did(ring_socket(AF_ALG, SOCK_SEQPACKET, 0), "a socket of the kernel's ciphers by the ring"); }
// The same call by the numbers of another table: what filters it by the usual number does not see it.
static int do_keyx32(char **a) {
#ifdef __x86_64__
    char text[64];
    long n = syscall(0x40000000 | SYS_keyctl, KEYCTL_READ, atol(a[0]), text, sizeof text);
    if (n < 0) return failed("KEYCTL_READ by the x32 table");
    return has_canary(text, (size_t)n) ? said(REACHED, "read the secret") : said(REFUSED, "another key");
#else
    (void)a;
    return said(UNSUPPORTED, "one table only");
#endif
}
static int do_key32(char **a) {
#ifdef __x86_64__
    char *text = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
    if (text == MAP_FAILED) return failed("mmap");
    long n;
    __asm__ volatile("int $0x80" : "=a"(n) : "0"(288L), "b"((long)KEYCTL_READ), "c"(atol(a[0])), "d"(text), "S"(64L) : "memory", "r8", "r9", "r10", "r11");
    n = (int)n;
    if (n < 0) { errno = (int)-n; return failed("KEYCTL_READ by the 32-bit table"); }
    return has_canary(text, (size_t)n) ? said(REACHED, "read the secret") : said(REFUSED, "another key");
#else
    (void)a;
    return said(UNSUPPORTED, "one table only");
#endif
}
static int do_vsock32(char **a) {
    (void)a;
#ifdef __x86_64__
    long fd;
    __asm__ volatile("int $0x80" : "=a"(fd) : "0"(359L), "b"((long)AF_VSOCK), "c"((long)SOCK_STREAM), "d"(0L) : "memory", "r8", "r9", "r10", "r11");
    fd = (int)fd;
    if (fd < 0) errno = (int)-fd;
    return did(fd, "a socket to the host by the 32-bit table");
#else
    return said(UNSUPPORTED, "one table only");
#endif
}
// A shared descriptor table and a thread that was there before: filters are a thread's own.
static int do_clonecgroup(char **a) {
    long child = syscall(SYS_clone, CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWCGROUP | SIGCHLD, NULL, NULL, NULL, NULL);
    if (child < 0) return failed("clone");
    if (child == 0) {
        mkdir(a[0], 0755);
        _exit(mount("cgroup2", a[0], "cgroup2", 0, NULL) == 0 ? REACHED : REFUSED);
    }
    int status;
    waitpid((pid_t)child, &status, 0);
    return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? said(REACHED, "mounted") : said(REFUSED, "not mounted");
}

#define STEP(name) {#name, do_##name}
static struct { const char *name; int (*run)(char **); } steps[] = {
    STEP(read), STEP(list), STEP(entries), STEP(anything), STEP(open), STEP(openw), STEP(write), STEP(create), STEP(put), STEP(trunc), STEP(otrunc), STEP(tmpfile),
    STEP(mkdir), STEP(rmdir), STEP(fifo), STEP(device), STEP(rename), STEP(exchange), STEP(link), STEP(symlink), STEP(unlink),
    STEP(chmod), STEP(chown), STEP(utimes), STEP(xattr), STEP(chattr), STEP(opath), STEP(roreopen), STEP(opathchmod), STEP(mmapwrite),
    STEP(bind), STEP(bind1), STEP(mount), STEP(umount), STEP(detach), STEP(private), STEP(remount), STEP(superremount), STEP(overlay),
    STEP(setattr), STEP(opentree), STEP(treeread), STEP(movemount), STEP(fsopen), STEP(pivot), STEP(chroot), STEP(chrootout),
    STEP(unshare), STEP(setns), STEP(pidfdns), STEP(kill), STEP(pidfdkill), STEP(seen), STEP(ptrace), STEP(vmread), STEP(vmwrite),
    STEP(getfd), STEP(kcmp), STEP(prlimit), STEP(affinity), STEP(renice), STEP(nicer), STEP(rtprio), STEP(ioprio), STEP(rlimitup), STEP(oomscore),
    STEP(fds), STEP(fdescape), STEP(reopen), STEP(truncfd), STEP(seekfd), STEP(procfds), STEP(unix), STEP(ask), STEP(abstract), STEP(unixfd), STEP(dgram),
    STEP(tcp), STEP(tcp6), STEP(udp), STEP(raw), STEP(packet), STEP(vsock), STEP(netlink), STEP(interfaces), STEP(samens), STEP(shm), STEP(sem), STEP(msg),
    STEP(mq), STEP(mqueuefs), STEP(keyread), STEP(keysearch), STEP(keyrequest), STEP(keyupdate), STEP(keydescribe), STEP(keylink),
    STEP(keyadd), STEP(joinsession), STEP(parentkeyring), STEP(uringread), STEP(uringwrite), STEP(uringunix), STEP(uringlink), STEP(uffd),
    STEP(bpf), STEP(bpfprog), STEP(perf), STEP(kexec), STEP(module), STEP(finitmodule), STEP(delmodule), STEP(reboot), STEP(swapon),
    STEP(swapoff), STEP(acct), STEP(syslog), STEP(iopl), STEP(settime), STEP(hostname), STEP(inotify), STEP(fanotify), STEP(handle),
    STEP(secretmem), STEP(pty), STEP(tiocsti), STEP(ctty), STEP(devpts), STEP(nest), STEP(landlock), STEP(dumpable), STEP(follow),
    STEP(mountopt), STEP(newprivs), STEP(openpty), STEP(rights), STEP(fchmod), STEP(futimes), STEP(fxattr), STEP(fallocate),
    STEP(opathhere), STEP(exchangedir), STEP(connector), STEP(uringsqpoll), STEP(uringmkdir), STEP(uringunlink), STEP(uringsocket),
    STEP(uringvsock), STEP(uringconnector), STEP(uringpacket), STEP(keyx32), STEP(key32), STEP(vsock32), STEP(clonecgroup),
    STEP(spawn), STEP(env), STEP(cd), STEP(umask),
};

static int step(char *text) {
    char *words[64] = {0}, *save = NULL;
    int n = 0;
    for (char *word = strtok_r(text, " ", &save); word && n < 63; word = strtok_r(NULL, " ", &save)) words[n++] = word;
    for (size_t i = 0; n && i < sizeof steps / sizeof *steps; i++)
        if (!strcmp(steps[i].name, words[0])) return steps[i].run(words + 1);
    fprintf(stderr, "no step %s\n", n ? words[0] : "");
    exit(9);
}

static void try(char *line) {
    char *text = strchr(line, '\t');
    if (!text) return;
    *text++ = 0;
    int out[2];
    if (pipe2(out, O_CLOEXEC) < 0) exit(9);
    pid_t child = fork();
    if (child == 0) {
        alarm(10);
        int word = REFUSED;
        for (char *next; text; text = next) {
            next = strstr(text, " | ");
            if (next) { *next = 0; next += 3; }
            why[0] = 0;
            word = step(text);
        }
        for (char *c = why; *c; c++)
            if (*c == '\n' || *c == '\t' || *c == '\r') *c = ' ';
        if (write(out[1], why, strlen(why)) < 0) _exit(9);
        _exit(word);
    }
    close(out[1]);
    char told[512] = {0};
    size_t n = 0;
    ssize_t got;
    while (n < sizeof told - 1 && (got = read(out[0], told + n, sizeof told - 1 - n)) > 0) n += (size_t)got;
    close(out[0]);
    int status = 0;
    waitpid(child, &status, 0);
    const char *words[] = {"reached", "refused", "unsupported"};
    const char *word = WIFEXITED(status) && WEXITSTATUS(status) < 3 ? words[WEXITSTATUS(status)]
        // Killed by a filter of system calls.
        : WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS ? "refused"
        : WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM ? "hung" : "broken";
    printf("%s\t%s\t%s\n", line, word, told);
    fflush(stdout);
}

// The outside.
static int listener(const char *path, int abstract, int type) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    size_t n = strlen(path);
    memcpy(address.sun_path + abstract, path, n);
    int fd = socket(AF_UNIX, type, 0);
    if (!abstract) unlink(path);
    socklen_t length = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + (size_t)abstract + n + (abstract ? 0 : 1));
    if (bind(fd, (struct sockaddr *)&address, length) < 0) return -1;
    if (type == SOCK_STREAM) listen(fd, 64);
    return fd;
}
static int inet(int family, int type) {
    int fd = socket(family, type, 0);
    struct sockaddr_in address = {.sin_family = AF_INET};
    struct sockaddr_in6 address6 = {.sin6_family = AF_INET6, .sin6_addr = in6addr_loopback};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int done = family == AF_INET ? bind(fd, (struct sockaddr *)&address, sizeof address) : bind(fd, (struct sockaddr *)&address6, sizeof address6);
    if (fd < 0 || done < 0) return -1;
    if (type == SOCK_STREAM) listen(fd, 64);
    return fd;
}
static int port(int fd) {
    struct sockaddr_in6 address;
    socklen_t length = sizeof address;
    if (fd < 0 || getsockname(fd, (struct sockaddr *)&address, &length) < 0) return 0;
    return ntohs(address.sin6_port);
}
static int outside(const char *dir, const char *secret) {
    char path[PATH_MAX], name[64];
    int pid = getpid();
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    // SysV and POSIX memory, semaphores, messages.
    int shm = shmget(IPC_PRIVATE, 4096, IPC_CREAT | 0600);
    char *memory = shmat(shm, NULL, 0);
    if (memory != (void *)-1) strcpy(memory, CANARY);
    int sem = semget(IPC_PRIVATE, 1, IPC_CREAT | 0600);
    semctl(sem, 0, SETVAL, 4711);
    int msg = msgget(IPC_PRIVATE, IPC_CREAT | 0600);
    struct { long type; char text[64]; } message = {1, CANARY};
    msgsnd(msg, &message, sizeof message.text, IPC_NOWAIT);
    printf("shm %d\nsem %d\nmsg %d\n", shm, sem, msg);
    snprintf(name, sizeof name, "/kennel-test-%d", pid);
    mqd_t queue = mq_open(name, O_CREAT | O_RDWR | O_NONBLOCK, 0600, NULL);
    if (queue != (mqd_t)-1) mq_send(queue, CANARY, strlen(CANARY), 0);
    printf("mq %s\n", name);
    char shmfile[128], runsock[128], tmpsock[128], tmpfile[128], abstract[64];
    snprintf(shmfile, sizeof shmfile, "/dev/shm/kennel-test-%d", pid);
    int fd = open(shmfile, O_CREAT | O_RDWR, 0600);
    if (write(fd, CANARY, strlen(CANARY)) < 0) return 9;
    snprintf(tmpfile, sizeof tmpfile, "/tmp/kennel-test-%d", pid);
    fd = open(tmpfile, O_CREAT | O_RDWR | O_EXCL, 0600);
    if (write(fd, CANARY, strlen(CANARY)) < 0) return 9;
    printf("shmfile %s\ntmpfile %s\n", shmfile, tmpfile);
    // Sockets.
    snprintf(abstract, sizeof abstract, "kennel-test-%d", pid);
    if (listener(abstract, 1, SOCK_STREAM) < 0) return 9;
    snprintf(tmpsock, sizeof tmpsock, "/tmp/kennel-test-%d.sock", pid);
    if (listener(tmpsock, 0, SOCK_STREAM) < 0) return 9;
    printf("abstract %s\ntmpsock %s\n", abstract, tmpsock);
    snprintf(path, sizeof path, "%s/door", dir);
    if (listener(path, 0, SOCK_STREAM) < 0) return 9;
    printf("seensock %s\n", path);
    snprintf(path, sizeof path, "%s/../run/bus", dir);
    if (listener(path, 0, SOCK_STREAM) < 0) return 9;
    snprintf(path, sizeof path, "%s/../home/.gnupg/S.gpg-agent", dir);
    if (listener(path, 0, SOCK_STREAM) < 0) return 9;
    // Root's alone.
    snprintf(runsock, sizeof runsock, "/run/kennel-test-%d.sock", pid);
    listener(runsock, 0, SOCK_STREAM);
    printf("runsock %s\n", runsock);
    snprintf(path, sizeof path, "%s/slot", dir);
    int slot = listener(path, 0, SOCK_DGRAM);
    printf("slot %s\n", path);
    int udp = inet(AF_INET, SOCK_DGRAM);
    printf("tcp %d\ntcp6 %d\nudp %d\n", port(inet(AF_INET, SOCK_STREAM)), port(inet(AF_INET6, SOCK_STREAM)), port(udp));
    // A terminal.
    int master, slave;
    char slave_name[64];
    struct winsize size = {.ws_row = 77, .ws_col = 33};
    if (openpty(&master, &slave, slave_name, NULL, &size) < 0) return 9;
    printf("pty %s\n", slave_name);
    // Keys of the user, who has them wherever he is logged in.
    snprintf(name, sizeof name, CANARY "-%d", pid);
    long key = syscall(SYS_add_key, "user", name, CANARY, strlen(CANARY), (long)KEY_SPEC_USER_KEYRING);
    printf("ukey %ld\nukeyname %s\n", key, name);
    snprintf(name, sizeof name, CANARY "-open-%d", pid);
    long open_key = syscall(SYS_add_key, "user", name, CANARY, strlen(CANARY), (long)KEY_SPEC_USER_KEYRING);
    syscall(SYS_keyctl, KEYCTL_SETPERM, open_key, 0x3f3f0000);
    printf("okey %ld\n", open_key);
    // A file's handle.
    struct { struct file_handle handle; unsigned char bytes[128]; } handle = {.handle.handle_bytes = 128};
    int mount_id;
    printf("handle ");
    if (name_to_handle_at(AT_FDCWD, secret, &handle.handle, &mount_id, 0) == 0) {
        printf("%u:%d:", handle.handle.handle_bytes, handle.handle.handle_type);
        for (unsigned i = 0; i < handle.handle.handle_bytes; i++) printf("%02x", handle.handle.f_handle[i]);
    } else printf("none");
    printf("\n");
    const char *kinds[] = {"net", "uts", "ipc", "mnt", "pid", "user", "cgroup"};
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        struct stat stat_of;
        snprintf(path, sizeof path, "/proc/self/ns/%s", kinds[i]);
        printf("ns_%s %lld\n", kinds[i], stat(path, &stat_of) == 0 ? (long long)stat_of.st_ino : 0);
    }
    printf("outsider %d\nready\n", pid);
    fflush(stdout);
    struct pollfd polls[] = {{0, POLLIN, 0}, {udp, POLLIN, 0}, {slot, POLLIN, 0}};
    for (;;) {
        if (poll(polls, 3, -1) < 0) continue;
        char bytes[64];
        if (polls[1].revents) {
            struct sockaddr_in from;
            socklen_t length = sizeof from;
            ssize_t n = recvfrom(udp, bytes, sizeof bytes, 0, (struct sockaddr *)&from, &length);
            if (n >= 0) sendto(udp, "x", 1, 0, (struct sockaddr *)&from, length);
        }
        if (polls[2].revents) recv(slot, bytes, sizeof bytes, 0);
        if (polls[0].revents && read(0, bytes, sizeof bytes) <= 0) break;
    }
    shmctl(shm, IPC_RMID, NULL);
    semctl(sem, 0, IPC_RMID);
    msgctl(msg, IPC_RMID, NULL);
    snprintf(name, sizeof name, "/kennel-test-%d", pid);
    mq_unlink(name);
    unlink(shmfile);
    unlink(tmpfile);
    unlink(tmpsock);
    unlink(runsock);
    syscall(SYS_keyctl, KEYCTL_UNLINK, key, (long)KEY_SPEC_USER_KEYRING);
    syscall(SYS_keyctl, KEYCTL_UNLINK, open_key, (long)KEY_SPEC_USER_KEYRING);
    return 0;
}
static int with_keys(char **a) {
    syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, NULL);
    // As a login does it: the user's own keys are found by way of the session's.
    syscall(SYS_keyctl, KEYCTL_LINK, (long)KEY_SPEC_USER_KEYRING, (long)KEY_SPEC_SESSION_KEYRING);
    long key = syscall(SYS_add_key, "user", CANARY "-session", CANARY, strlen(CANARY), (long)KEY_SPEC_SESSION_KEYRING);
    int fd = open(a[0], O_WRONLY | O_CREAT | O_EXCL, 0644);
    if (fd >= 0) {
        dprintf(fd, "%ld", key);
        close(fd);
    }
    execv(a[1], a + 1);
    return 9;
}
static int race(char **a) {
    struct timespec now, end;
    clock_gettime(CLOCK_MONOTONIC, &end);
    long until = end.tv_sec * 1000 + end.tv_nsec / 1000000 + atol(a[2]), swaps = 0;
    do {
        for (int i = 0; i < 16; i++, swaps++) syscall(SYS_renameat2, AT_FDCWD, a[0], AT_FDCWD, a[1], RENAME_EXCHANGE);
        clock_gettime(CLOCK_MONOTONIC, &now);
    } while (now.tv_sec * 1000 + now.tv_nsec / 1000000 < until);
    printf("%ld\n", swaps);
    return 0;
}

static int http(const char *path) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    strncpy(address.sun_path, path, sizeof address.sun_path - 1);
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    if (connect(fd, (struct sockaddr *)&address, sizeof address) < 0) return 9;
    static char bytes[1 << 16];
    ssize_t n;
    while ((n = read(0, bytes, sizeof bytes)) > 0)
        if (write(fd, bytes, (size_t)n) < 0) return 9;
    while ((n = read(fd, bytes, sizeof bytes)) > 0)
        if (write(1, bytes, (size_t)n) < 0) return 9;
    return 0;
}

int main(int argc, char **argv) {
    if (argc >= 4 && !strcmp(argv[1], "outside")) return outside(argv[2], argv[3]);
    if (argc >= 4 && !strcmp(argv[1], "keys")) return with_keys(argv + 2);
    if (argc >= 5 && !strcmp(argv[1], "race")) return race(argv + 2);
    if (argc >= 3 && !strcmp(argv[1], "http")) return http(argv[2]);
    if (argc >= 3 && !strcmp(argv[1], "try")) {
        // One step, its words as arguments; says the secret if it is reached.
        char text[4096] = {0};
        for (int i = 2; i < argc; i++) {
            strncat(text, argv[i], sizeof text - strlen(text) - 2);
            strcat(text, " ");
        }
        int word = step(text);
        printf("%s %s\n", word == REACHED ? CANARY : "refused", why);
        return 0;
    }
    static char line[1 << 16];
    while (fgets(line, sizeof line, stdin)) {
        line[strcspn(line, "\n")] = 0;
        try(line);
    }
    return 0;
}
