// A library that a hostile agent's environment brings into programs: it writes down beside itself which those are, and
// in which PID namespace they run. From a directory `pre-exe` it also tries to change kennel's own program.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

unsigned la_version(unsigned version) { return version; }

__attribute__((constructor)) static void loaded(void) {
    char program[PATH_MAX] = {0}, space[64] = {0}, path[PATH_MAX + 8];
    Dl_info info;
    if (!dladdr((void *)loaded, &info)) return;
    snprintf(path, PATH_MAX, "%s", info.dli_fname);
    char *name = strrchr(path, '/');
    if (!name) return;
    strcpy(name, "/log");
    if (readlink("/proc/self/exe", program, sizeof program - 1) < 0) return;
    if (readlink("/proc/self/ns/pid", space, sizeof space - 1) < 0) return;
    // What runs it may be kennel's own program, by a way to it that is not read-only.
    if (strstr(path, "/pre-exe/") && strstr(program, "session-worker")) {
        struct timespec times[2] = {{12345, 0}, {12345, 0}};
        chmod("/proc/self/exe", 0751);
        utimensat(AT_FDCWD, "/proc/self/exe", times, 0);
        open("/proc/self/exe", O_WRONLY | O_APPEND);
    }
    int fd = open(path, O_WRONLY | O_CREAT | O_APPEND, 0666);
    if (fd < 0) return;
    dprintf(fd, "%s %s\n", space, program);
    close(fd);
}
