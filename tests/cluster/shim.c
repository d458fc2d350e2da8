/* Stands between a program and the system (LD_PRELOAD), for tests: records what the program does with names and
 * flushes, and makes a disk that is full or does not answer. Only paths under SHIM_UNDER count. It is Linux only,
 * and knows only the calls that Rust's standard library makes; what is done through other calls passes unseen.
 *
 *   SHIM_UNDER    a folder
 *   SHIM_RECORD   a file that gets one line for each call:
 *                 create P | mkdir P | rename P | write P | fsync P | fdatasync P | listen
 *                 (rename: the new name; write: whatever adds bytes; listen: of any socket)
 *   SHIM_FULL_AT  N: the Nth call that needs room (the first four kinds), and a few after it, fail
 *   SHIM_FULL     a file: as long as it exists, writes to what ends with SHIM_FULL_END fail
 *   SHIM_ERRNO    the error of both (ENOSPC by default)
 *   SHIM_HANG     a file: as long as it exists, no flush returns
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define FULL_TIMES 3

static atomic_long room_calls;

static int is_under(const char *path) {
    const char *under = getenv("SHIM_UNDER");
    size_t length = under ? strlen(under) : 0;
    return length > 0 && strncmp(path, under, length) == 0 && (path[length] == 0 || path[length] == '/');
}

static int exists(const char *variable) {
    const char *path = getenv(variable);
    return path != NULL && syscall(SYS_access, path, F_OK) == 0;
}

static int ends_with(const char *text, const char *end) {
    size_t length = strlen(text), wanted = strlen(end);
    return length >= wanted && strcmp(text + length - wanted, end) == 0;
}

static void path_of(int fd, char *path) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, PATH_MAX - 1);
    path[length < 0 ? 0 : length] = 0;
}

static void record(const char *what, const char *path) {
    const char *file = getenv("SHIM_RECORD");
    if (file == NULL) return;
    char line[PATH_MAX + 16];
    int length = snprintf(line, sizeof line, "%s%s%s\n", what, *path ? " " : "", path);
    int fd = (int)syscall(SYS_openat, AT_FDCWD, file, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (fd < 0) return;
    syscall(SYS_write, fd, line, length);
    syscall(SYS_close, fd);
}

/* Whether a call that needs room finds some. If not, errno says so. */
static int has_room(const char *path) {
    if (!is_under(path)) return 1;
    const char *error = getenv("SHIM_ERRNO"), *at = getenv("SHIM_FULL_AT"), *end = getenv("SHIM_FULL_END");
    long call = atomic_fetch_add(&room_calls, 1) + 1, first = at ? atol(at) : 0;
    int fails = (first > 0 && call >= first && call < first + FULL_TIMES) ||
                (end != NULL && ends_with(path, end) && exists("SHIM_FULL"));
    if (fails) {
        record("full", path);
        errno = error ? atoi(error) : ENOSPC;
        return 0;
    }
    return 1;
}

static int open_any(const char *path, int flags, mode_t mode) {
    int makes = (flags & O_CREAT) != 0 && is_under(path) && syscall(SYS_access, path, F_OK) != 0;
    if (makes && !has_room(path)) return -1;
    int fd = (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
    if (makes && fd >= 0) record("create", path);
    return fd;
}

int open(const char *path, int flags, ...) {
    va_list rest;
    va_start(rest, flags);
    mode_t mode = va_arg(rest, mode_t);
    va_end(rest);
    return open_any(path, flags, mode);
}

int open64(const char *path, int flags, ...) {
    va_list rest;
    va_start(rest, flags);
    mode_t mode = va_arg(rest, mode_t);
    va_end(rest);
    return open_any(path, flags, mode);
}

int mkdir(const char *path, mode_t mode) {
    if (is_under(path) && syscall(SYS_access, path, F_OK) != 0 && !has_room(path)) return -1;
    int result = (int)syscall(SYS_mkdirat, AT_FDCWD, path, mode);
    if (result == 0 && is_under(path)) record("mkdir", path);
    return result;
}

int rename(const char *from, const char *to) {
    if (!has_room(to)) return -1;
    int result = (int)syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0);
    if (result == 0 && is_under(to)) record("rename", to);
    return result;
}

ssize_t write(int fd, const void *bytes, size_t count) {
    char path[PATH_MAX];
    path_of(fd, path);
    if (!has_room(path)) return -1;
    if (is_under(path)) record("write", path);
    return syscall(SYS_write, fd, bytes, count);
}

ssize_t pwrite64(int fd, const void *bytes, size_t count, off_t offset) {
    char path[PATH_MAX];
    path_of(fd, path);
    if (!has_room(path)) return -1;
    if (is_under(path)) record("write", path);
    return syscall(SYS_pwrite64, fd, bytes, count, offset);
}

static int flush(int fd, long call, const char *what) {
    char path[PATH_MAX];
    path_of(fd, path);
    if (!is_under(path)) return (int)syscall(call, fd);
    while (exists("SHIM_HANG")) usleep(10000);
    int result = (int)syscall(call, fd);
    if (result == 0) record(what, path);
    return result;
}

int fsync(int fd) { return flush(fd, SYS_fsync, "fsync"); }

int fdatasync(int fd) { return flush(fd, SYS_fdatasync, "fdatasync"); }

int listen(int fd, int backlog) {
    record("listen", "");
    return (int)syscall(SYS_listen, fd, backlog);
}
