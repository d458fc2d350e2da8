/* Preloaded into a node: what makes data durable hangs while a file exists. See hung_disk.rs. */
#define _GNU_SOURCE
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

static void wait_while_hung(void) {
    const char *flag = getenv("HUNG_DISK_FLAG");
    while (flag != NULL && access(flag, F_OK) == 0)
        usleep(1000);
}

int fdatasync(int fd) {
    wait_while_hung();
    return syscall(SYS_fdatasync, fd);
}

int fsync(int fd) {
    wait_while_hung();
    return syscall(SYS_fsync, fd);
}
