/* Stands between a process and the C library: sees everything done to files below one folder, and makes it fail.
 *
 * Preloaded (LD_PRELOAD), it does nothing until `shim_watch` is called. From then on every call that changes
 * something below the folder is one operation. Operations are counted in classes; at a chosen one the process is
 * killed, half a write is done, or the call fails as it does on a full or a broken disk. What happens can be
 * written down completely, for the simulator of power losses. Looks at the clock are counted, and can fail, too.
 *
 * The shared-memory index of SQLite's write-ahead log (`-shm`) is left out: it need not survive anything.
 * Calls that are neither carried out faithfully nor counted (shared writable mappings, sendfile, ...) are reported
 * as unknown, so that nothing is overlooked in silence.
 */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

/* Kinds of faults, and what is counted for them; the numbers stand in shim.py too. */
enum { NO_FAULT, KILL, TORN, SHORT, IO_ERROR, FULL_ONCE, FULL_FOR_GOOD, NO_CLOCK };

/* Kinds of entries in the trace; the numbers stand in trace.py too. */
enum { OPEN = 1, WRITE, RESIZE, SYNC, FAILED_SYNC, RENAME, UNLINK, MKDIR, RMDIR, LINK, CLOSE, DUPLICATE, MARK, UNKNOWN, START };

/* Classes of operations. */
enum { ANY = 1, WRITES = 2, ALLOCATES = 4, LOOKS = 8 };

#define HANDLES 65536

struct handle {
    int watched;
    int exempt;
    char *path;
};

static struct handle handles[HANDLES];
static char folder[PATH_MAX];
static size_t folder_length;
static int fault_kind;
static long fault_at;
static int report_to = -1;
static int trace_to = -1;
static int full;
static int lazy;
static uint64_t clock_state;
static long counted_any, counted_writes, counted_allocating, counted_looks;
static pthread_mutex_t one_at_a_time = PTHREAD_MUTEX_INITIALIZER;

#define REAL(name) ((__typeof__(&name))real(#name))

static void *real(const char *name)
{
    static struct { const char *name; void *found; } cache[64];
    for (int i = 0; i < 64; i++) {
        if (cache[i].name == NULL) {
            cache[i].found = dlsym(RTLD_NEXT, name);
            cache[i].name = name;
            return cache[i].found;
        }
        if (strcmp(cache[i].name, name) == 0)
            return cache[i].found;
    }
    return dlsym(RTLD_NEXT, name);
}

static void die(void)
{
    syscall(SYS_kill, syscall(SYS_getpid), SIGKILL);
    for (;;)
        pause();
}

static void put(int handle, const void *data, size_t length)
{
    while (length) {
        long done = syscall(SYS_write, handle, data, length);
        if (done < 0) {
            if (errno == EINTR)
                continue;
            die(); /* a trace with a hole in it would be worse than none */
        }
        data = (const char *)data + done;
        length -= (size_t)done;
    }
}

static void report(const char *word, const char *what, const char *path)
{
    if (report_to < 0)
        return;
    char line[2 * PATH_MAX];
    int length = snprintf(line, sizeof line, "%s %s %s\n", word, what, path ? path : "");
    if (length >= (int)sizeof line)
        length = (int)sizeof line - 1;
    put(report_to, line, (size_t)length);
}

struct entry {
    uint8_t kind, flag;
    uint16_t spare;
    int32_t handle, other;
    int64_t offset;
    uint32_t path, target, data; /* lengths of what follows */
} __attribute__((packed));

static void trace(int kind, int flag, int handle, int other, off_t offset, const char *path, const char *target,
                  const void *data, size_t length)
{
    if (trace_to < 0)
        return;
    struct entry head = {(uint8_t)kind, (uint8_t)flag, 0, handle, other, offset,
                         path ? (uint32_t)strlen(path) : 0, target ? (uint32_t)strlen(target) : 0, (uint32_t)length};
    put(trace_to, &head, sizeof head);
    put(trace_to, path, head.path);
    put(trace_to, target, head.target);
    put(trace_to, data, length);
}

static void unknown(const char *call, const char *path)
{
    report("unknown", call, path);
    trace(UNKNOWN, 0, -1, -1, 0, path, call, NULL, 0);
}

/* The absolute path, without `.`, `..` and doubled slashes; links are not followed. */
static int absolute(int base, const char *path, char *out)
{
    char raw[2 * PATH_MAX];
    if (path[0] == '/') {
        if (strlen(path) >= PATH_MAX)
            return 0;
        strcpy(raw, path);
    } else {
        char from[PATH_MAX];
        if (base == AT_FDCWD) {
            if (!getcwd(from, sizeof from))
                return 0;
        } else {
            char link[64];
            snprintf(link, sizeof link, "/proc/self/fd/%d", base);
            ssize_t n = readlink(link, from, sizeof from - 1);
            if (n < 0)
                return 0;
            from[n] = 0;
        }
        if (snprintf(raw, sizeof raw, "%s/%s", from, path) >= PATH_MAX)
            return 0;
    }
    size_t length = 0;
    for (char *save, *part = strtok_r(raw, "/", &save); part; part = strtok_r(NULL, "/", &save)) {
        if (strcmp(part, ".") == 0)
            continue;
        if (strcmp(part, "..") == 0) {
            while (length && out[--length] != '/')
                ;
            continue;
        }
        length += (size_t)sprintf(out + length, "/%s", part);
    }
    if (!length)
        out[length++] = '/';
    out[length] = 0;
    return 1;
}

/* Whether a path lies below the folder (or is the folder); fills in its absolute form. */
static int below(int base, const char *path, char *out)
{
    if (!folder_length || !path || !absolute(base, path, out))
        return 0;
    return strncmp(out, folder, folder_length) == 0 && (out[folder_length] == '/' || out[folder_length] == 0);
}

static int is_exempt(const char *path)
{
    size_t length = strlen(path);
    return length > 4 && strcmp(path + length - 4, "-shm") == 0;
}

static void remember(int handle, const char *path)
{
    if (handle < 0 || handle >= HANDLES)
        return;
    free(handles[handle].path);
    handles[handle].path = strdup(path);
    handles[handle].watched = 1;
    handles[handle].exempt = is_exempt(path);
}

static struct handle *watched(int handle)
{
    if (handle < 0 || handle >= HANDLES || !handles[handle].watched)
        return NULL;
    return &handles[handle];
}

/* Count an operation that is about to happen.
 * Returns 0 to go on, -1 to fail with errno set, 1 to do half of the write (and then to die, if TORN). */
static int about_to(int class, const char *call, const char *path)
{
    counted_any++;
    if (class & WRITES)
        counted_writes++;
    if (class & ALLOCATES)
        counted_allocating++;
    if (full && (class & ALLOCATES)) {
        errno = ENOSPC;
        return -1;
    }
    long here = -1;
    if (fault_kind == KILL || fault_kind == IO_ERROR)
        here = counted_any;
    else if ((fault_kind == TORN || fault_kind == SHORT) && (class & WRITES))
        here = counted_writes;
    else if ((fault_kind == FULL_ONCE || fault_kind == FULL_FOR_GOOD) && (class & ALLOCATES))
        here = counted_allocating;
    if (here < 0 || here != fault_at)
        return 0;
    report("hit", call, path);
    switch (fault_kind) {
    case KILL:
        die();
        return 0;
    case IO_ERROR:
        errno = EIO;
        return -1;
    case FULL_FOR_GOOD:
        full = 1; /* fall through */
    case FULL_ONCE:
        errno = ENOSPC;
        return -1;
    default:
        return 1;
    }
}

static void lock(void) { pthread_mutex_lock(&one_at_a_time); }

static void unlock(void)
{
    int saved = errno;
    pthread_mutex_unlock(&one_at_a_time);
    errno = saved;
}

/* What the tests call. */

/* Watch a folder from now on. */
void shim_watch(const char *path, int kind, long at, int report_handle, int trace_handle)
{
    lock();
    if (!absolute(AT_FDCWD, path, folder))
        die();
    folder_length = strlen(folder);
    fault_kind = kind;
    fault_at = at;
    report_to = report_handle;
    trace_to = trace_handle;
    full = 0;
    counted_any = counted_writes = counted_allocating = counted_looks = 0;
    trace(START, 0, -1, -1, 0, folder, NULL, NULL, 0);
    unlock();
}

/* Watch no more. */
void shim_ignore(void)
{
    lock();
    folder_length = 0;
    fault_kind = NO_FAULT;
    full = 0;
    report_to = trace_to = -1;
    for (int i = 0; i < HANDLES; i++)
        handles[i].watched = 0;
    unlock();
}

/* How many operations of a class there were. */
long shim_count(int class)
{
    if (class == LOOKS)
        return counted_looks;
    return class == WRITES ? counted_writes : class == ALLOCATES ? counted_allocating : counted_any;
}

/* Say something in the report and in the trace, in the order in which things happen. */
void shim_mark(const char *text)
{
    lock();
    size_t length = strlen(text);
    char *line = malloc(length + 1);
    if (!line)
        die();
    memcpy(line, text, length);
    line[length] = '\n';
    if (report_to >= 0)
        put(report_to, line, length + 1); /* at once: others may be saying something too */
    free(line);
    trace(MARK, 0, -1, -1, 0, text, NULL, NULL, 0);
    unlock();
}

/* Whether to leave out what makes the kernel write to the disk: a kill loses nothing that the kernel has. */
void shim_lazy(int yes) { lazy = yes; }

/* From now on the clock jumps by up to twenty years with every look at it; 0: it goes right. */
void shim_clock(uint64_t seed) { clock_state = seed; }

/* Files: opening and closing. */

typedef int (*opener)(const char *, int, ...);
typedef int (*opener_at)(int, const char *, int, ...);

static int opened(const char *call, int base, const char *path, int flags, mode_t mode, int at_call)
{
    char whole[PATH_MAX];
    if (!below(base, path, whole)) {
        int other = at_call ? ((opener_at)real(call))(base, path, flags, mode)
                            : ((opener)real(call))(path, flags, mode);
        if (watched(other))
            handles[other].watched = 0; /* its number was closed by a call that is not seen */
        return other;
    }
    lock();
    struct stat before;
    int existed = syscall(SYS_newfstatat, AT_FDCWD, whole, &before, AT_SYMLINK_NOFOLLOW) == 0;
    int created = (flags & O_CREAT) && !existed, emptied = (flags & O_TRUNC) && existed && before.st_size > 0;
    int exempt = is_exempt(whole), handle = -1;
    if ((flags & O_TMPFILE) == O_TMPFILE)
        unknown("O_TMPFILE", whole);
    if (exempt && full && created)
        errno = ENOSPC;
    else if (exempt || !(created || emptied) || about_to(ANY | (created ? ALLOCATES : 0), call, whole) == 0)
        handle = at_call ? ((opener_at)real(call))(base, path, flags, mode) : ((opener)real(call))(path, flags, mode);
    if (handle >= 0) {
        remember(handle, whole);
        if (!exempt)
            trace(OPEN, created ? 1 : emptied ? 2 : 0, handle, -1, 0, whole, NULL, NULL, 0);
    }
    unlock();
    return handle;
}

#define MODE(flags, last) \
    mode_t mode = 0; \
    if ((flags) & (O_CREAT | O_TMPFILE)) { \
        va_list rest; \
        va_start(rest, last); \
        mode = (mode_t)va_arg(rest, int); \
        va_end(rest); \
    }

int open(const char *path, int flags, ...) { MODE(flags, flags) return opened("open", AT_FDCWD, path, flags, mode, 0); }
int open64(const char *path, int flags, ...) { MODE(flags, flags) return opened("open64", AT_FDCWD, path, flags, mode, 0); }
int openat(int base, const char *path, int flags, ...) { MODE(flags, flags) return opened("openat", base, path, flags, mode, 1); }
int openat64(int base, const char *path, int flags, ...) { MODE(flags, flags) return opened("openat64", base, path, flags, mode, 1); }
int creat(const char *path, mode_t mode) { return open(path, O_CREAT | O_WRONLY | O_TRUNC, mode); }
int creat64(const char *path, mode_t mode) { return open(path, O_CREAT | O_WRONLY | O_TRUNC, mode); }

int close(int handle)
{
    struct handle *h = watched(handle);
    if (!h)
        return REAL(close)(handle);
    lock();
    h->watched = 0;
    if (!h->exempt)
        trace(CLOSE, 0, handle, -1, 0, NULL, NULL, NULL, 0);
    int result = REAL(close)(handle);
    unlock();
    return result;
}

static int duplicated(int from, int to)
{
    struct handle *h = watched(from);
    if (to >= 0 && h) {
        lock();
        remember(to, h->path);
        if (!h->exempt)
            trace(DUPLICATE, 0, from, to, 0, NULL, NULL, NULL, 0);
        unlock();
    } else if (to >= 0 && watched(to)) {
        handles[to].watched = 0;
    }
    return to;
}

int dup(int handle) { return duplicated(handle, REAL(dup)(handle)); }
int dup2(int handle, int to) { return handle == to ? REAL(dup2)(handle, to) : duplicated(handle, REAL(dup2)(handle, to)); }
int dup3(int handle, int to, int flags) { return duplicated(handle, REAL(dup3)(handle, to, flags)); }

static int controlled(const char *call, int handle, int command, void *argument)
{
    int result = ((int (*)(int, int, ...))real(call))(handle, command, argument);
    return command == F_DUPFD || command == F_DUPFD_CLOEXEC ? duplicated(handle, result) : result;
}

#define ARGUMENT(last) \
    va_list rest; \
    va_start(rest, last); \
    void *argument = va_arg(rest, void *); \
    va_end(rest);

int fcntl(int handle, int command, ...) { ARGUMENT(command) return controlled("fcntl", handle, command, argument); }
int fcntl64(int handle, int command, ...) { ARGUMENT(command) return controlled("fcntl64", handle, command, argument); }

/* Files: content. */

/* Write at an offset, or at the handle's own position where it is negative. */
static ssize_t written(const char *call, int handle, const void *data, size_t length, off_t offset)
{
    struct handle *h = watched(handle);
    if (!h->exempt) {
        int answer = about_to(ANY | WRITES | ALLOCATES, call, h->path);
        if (answer < 0)
            return -1;
        if (answer > 0 && length > 1)
            length /= 2;
        else if (answer > 0 && fault_kind == SHORT)
            answer = 0; /* half of one byte is none, which no write ever answers */
    } else if (full) {
        errno = ENOSPC;
        return -1;
    }
    long done = offset < 0 ? syscall(SYS_write, handle, data, length)
                           : syscall(SYS_pwrite64, handle, data, length, offset);
    if (done > 0 && !h->exempt) {
        int saved = errno;
        off_t at = offset < 0 ? lseek(handle, 0, SEEK_CUR) - done : offset;
        trace(WRITE, 0, handle, -1, at, NULL, NULL, data, (size_t)done);
        if (fault_kind == TORN && counted_writes == fault_at)
            die();
        errno = saved;
    }
    return done;
}

ssize_t write(int handle, const void *data, size_t length)
{
    if (!watched(handle))
        return REAL(write)(handle, data, length);
    lock();
    ssize_t done = written("write", handle, data, length, -1);
    unlock();
    return done;
}

ssize_t pwrite64(int handle, const void *data, size_t length, off64_t offset)
{
    if (!watched(handle))
        return REAL(pwrite64)(handle, data, length, offset);
    lock();
    ssize_t done = written("pwrite", handle, data, length, offset);
    unlock();
    return done;
}

ssize_t pwrite(int handle, const void *data, size_t length, off_t offset) { return pwrite64(handle, data, length, offset); }

static ssize_t gathered(const char *call, int handle, const struct iovec *parts, int count, off_t offset)
{
    size_t length = 0, at = 0;
    for (int i = 0; i < count; i++)
        length += parts[i].iov_len;
    char *data = malloc(length ? length : 1);
    if (!data) {
        errno = ENOMEM;
        return -1;
    }
    for (int i = 0; i < count; i++) {
        memcpy(data + at, parts[i].iov_base, parts[i].iov_len);
        at += parts[i].iov_len;
    }
    lock();
    ssize_t done = written(call, handle, data, length, offset);
    unlock();
    int saved = errno;
    free(data);
    errno = saved;
    return done;
}

ssize_t writev(int handle, const struct iovec *parts, int count)
{
    return watched(handle) ? gathered("writev", handle, parts, count, -1) : REAL(writev)(handle, parts, count);
}

ssize_t pwritev(int handle, const struct iovec *parts, int count, off_t offset)
{
    return watched(handle) ? gathered("pwritev", handle, parts, count, offset) : REAL(pwritev)(handle, parts, count, offset);
}

ssize_t pwritev64(int handle, const struct iovec *parts, int count, off64_t offset) { return pwritev(handle, parts, count, offset); }

int ftruncate64(int handle, off64_t size)
{
    struct handle *h = watched(handle);
    if (!h)
        return REAL(ftruncate64)(handle, size);
    lock();
    int result = -1;
    struct stat before;
    long known = syscall(SYS_fstat, handle, &before);
    int grows = known == 0 && size > before.st_size;
    if (h->exempt && full && grows)
        errno = ENOSPC;
    else if (h->exempt || about_to(ANY | (grows ? ALLOCATES : 0), "ftruncate", h->path) == 0)
        result = REAL(ftruncate64)(handle, size);
    if (result == 0 && !h->exempt)
        trace(RESIZE, grows, handle, -1, size, NULL, NULL, NULL, 0);
    unlock();
    return result;
}

int ftruncate(int handle, off_t size) { return ftruncate64(handle, size); }

static int synced(const char *call, int handle)
{
    struct handle *h = watched(handle);
    if (!h || h->exempt)
        return lazy ? 0 : ((int (*)(int))real(call))(handle);
    lock();
    int result = about_to(ANY, call, h->path);
    if (result == 0)
        result = lazy ? 0 : ((int (*)(int))real(call))(handle);
    trace(result == 0 ? SYNC : FAILED_SYNC, 0, handle, -1, 0, NULL, NULL, NULL, 0);
    unlock();
    return result;
}

int fsync(int handle) { return synced("fsync", handle); }
int fdatasync(int handle) { return synced("fdatasync", handle); }

int sync_file_range(int handle, off64_t offset, off64_t count, unsigned int flags)
{
    struct handle *h = watched(handle);
    if (h && !h->exempt) { /* makes nothing durable by itself, so it counts but is not traced as a sync */
        lock();
        int answer = about_to(ANY, "sync_file_range", h->path);
        unlock();
        if (answer < 0)
            return -1;
    }
    return REAL(sync_file_range)(handle, offset, count, flags);
}

/* Folders. */

static int renamed(int from_base, const char *from, int to_base, const char *to, unsigned int flags)
{
    char a[PATH_MAX], b[PATH_MAX];
    int inside = below(from_base, from, a), to_inside = below(to_base, to, b);
    if (!inside && !to_inside)
        return (int)syscall(SYS_renameat2, from_base, from, to_base, to, flags);
    lock();
    if (inside != to_inside || (flags & ~RENAME_NOREPLACE))
        unknown("rename across or exchange", inside ? a : b);
    int result = about_to(ANY | ALLOCATES, "rename", b);
    if (result == 0)
        result = (int)syscall(SYS_renameat2, from_base, from, to_base, to, flags);
    if (result == 0)
        trace(RENAME, 0, -1, -1, 0, a, b, NULL, 0);
    unlock();
    return result;
}

int rename(const char *from, const char *to) { return renamed(AT_FDCWD, from, AT_FDCWD, to, 0); }
int renameat(int a, const char *from, int b, const char *to) { return renamed(a, from, b, to, 0); }
int renameat2(int a, const char *from, int b, const char *to, unsigned int flags) { return renamed(a, from, b, to, flags); }

static int removed(const char *call, int base, const char *path, int flags)
{
    char whole[PATH_MAX];
    int folder_too = (flags & AT_REMOVEDIR) != 0;
    if (!below(base, path, whole) || is_exempt(whole))
        return (int)syscall(SYS_unlinkat, base, path, flags);
    lock();
    struct stat before;
    int result = -1;
    /* Of what is not there, nothing is removed: no operation. */
    if (syscall(SYS_newfstatat, AT_FDCWD, whole, &before, AT_SYMLINK_NOFOLLOW) != 0 ||
        about_to(ANY, call, whole) == 0)
        result = (int)syscall(SYS_unlinkat, base, path, flags);
    if (result == 0)
        trace(folder_too ? RMDIR : UNLINK, 0, -1, -1, 0, whole, NULL, NULL, 0);
    unlock();
    return result;
}

int unlink(const char *path) { return removed("unlink", AT_FDCWD, path, 0); }
int unlinkat(int base, const char *path, int flags) { return removed("unlinkat", base, path, flags); }
int rmdir(const char *path) { return removed("rmdir", AT_FDCWD, path, AT_REMOVEDIR); }
int remove(const char *path)
{
    struct stat found;
    if (syscall(SYS_newfstatat, AT_FDCWD, path, &found, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(found.st_mode))
        return rmdir(path);
    return unlink(path);
}

static int made(int base, const char *path, mode_t mode)
{
    char whole[PATH_MAX];
    if (!below(base, path, whole))
        return (int)syscall(SYS_mkdirat, base, path, mode);
    lock();
    struct stat before;
    char above[PATH_MAX];
    strcpy(above, whole);
    *strrchr(above, '/') = 0;
    int result = -1;
    /* Where it exists already, or has nowhere to be, nothing is made: no operation. */
    if (syscall(SYS_newfstatat, AT_FDCWD, whole, &before, AT_SYMLINK_NOFOLLOW) == 0 ||
        syscall(SYS_newfstatat, AT_FDCWD, above, &before, 0) != 0 || about_to(ANY | ALLOCATES, "mkdir", whole) == 0)
        result = (int)syscall(SYS_mkdirat, base, path, mode);
    if (result == 0)
        trace(MKDIR, 0, -1, -1, 0, whole, NULL, NULL, 0);
    unlock();
    return result;
}

int mkdir(const char *path, mode_t mode) { return made(AT_FDCWD, path, mode); }
int mkdirat(int base, const char *path, mode_t mode) { return made(base, path, mode); }

static int linked(int from_base, const char *from, int to_base, const char *to, int flags)
{
    char a[PATH_MAX], b[PATH_MAX];
    int inside = below(from_base, from, a), to_inside = below(to_base, to, b);
    if (!inside && !to_inside)
        return (int)syscall(SYS_linkat, from_base, from, to_base, to, flags);
    lock();
    if (inside != to_inside)
        unknown("link across", inside ? a : b);
    int result = about_to(ANY | ALLOCATES, "link", b);
    if (result == 0)
        result = (int)syscall(SYS_linkat, from_base, from, to_base, to, flags);
    if (result == 0)
        trace(LINK, 0, -1, -1, 0, a, b, NULL, 0);
    unlock();
    return result;
}

int link(const char *from, const char *to) { return linked(AT_FDCWD, from, AT_FDCWD, to, 0); }
int linkat(int a, const char *from, int b, const char *to, int flags) { return linked(a, from, b, to, flags); }

/* What is not expected, and must not be overlooked. */

static void not_expected(const char *call, int handle)
{
    struct handle *h = watched(handle);
    if (h && !h->exempt)
        unknown(call, h->path);
}

static void path_not_expected(const char *call, int base, const char *path)
{
    char whole[PATH_MAX];
    if (below(base, path, whole) && !is_exempt(whole))
        unknown(call, whole);
}

int symlink(const char *from, const char *to)
{
    path_not_expected("symlink", AT_FDCWD, to);
    return REAL(symlink)(from, to);
}

int symlinkat(const char *from, int base, const char *to)
{
    path_not_expected("symlinkat", base, to);
    return REAL(symlinkat)(from, base, to);
}

int truncate(const char *path, off_t size)
{
    path_not_expected("truncate", AT_FDCWD, path);
    return REAL(truncate)(path, size);
}

int truncate64(const char *path, off64_t size)
{
    path_not_expected("truncate64", AT_FDCWD, path);
    return REAL(truncate64)(path, size);
}

int fallocate(int handle, int mode, off_t offset, off_t length)
{
    not_expected("fallocate", handle);
    return REAL(fallocate)(handle, mode, offset, length);
}

int fallocate64(int handle, int mode, off64_t offset, off64_t length)
{
    not_expected("fallocate64", handle);
    return REAL(fallocate64)(handle, mode, offset, length);
}

int posix_fallocate(int handle, off_t offset, off_t length)
{
    not_expected("posix_fallocate", handle);
    return REAL(posix_fallocate)(handle, offset, length);
}

int posix_fallocate64(int handle, off64_t offset, off64_t length)
{
    not_expected("posix_fallocate64", handle);
    return REAL(posix_fallocate64)(handle, offset, length);
}

ssize_t copy_file_range(int from, off64_t *from_at, int to, off64_t *to_at, size_t length, unsigned int flags)
{
    not_expected("copy_file_range", to);
    return REAL(copy_file_range)(from, from_at, to, to_at, length, flags);
}

ssize_t sendfile(int to, int from, off_t *offset, size_t count)
{
    not_expected("sendfile", to);
    return (ssize_t)syscall(SYS_sendfile, to, from, offset, count);
}

ssize_t sendfile64(int to, int from, off64_t *offset, size_t count)
{
    not_expected("sendfile64", to);
    return (ssize_t)syscall(SYS_sendfile, to, from, offset, count);
}

void *mmap64(void *start, size_t length, int protection, int flags, int handle, off64_t offset)
{
    if ((flags & MAP_SHARED) && (protection & PROT_WRITE))
        not_expected("mmap", handle);
    return (void *)syscall(SYS_mmap, start, length, protection, flags, handle, offset);
}

void *mmap(void *start, size_t length, int protection, int flags, int handle, off_t offset)
{
    return mmap64(start, length, protection, flags, handle, offset);
}

/* The clock. */

static int64_t jump(void)
{
    if (!clock_state)
        return 0;
    clock_state ^= clock_state << 13;
    clock_state ^= clock_state >> 7;
    clock_state ^= clock_state << 17;
    return (int64_t)(clock_state % 1262304000u) - 631152000; /* seconds: plus or minus twenty years */
}

/* Counts a look at the clock while a folder is watched; whether it fails. */
static int look_fails(const char *call)
{
    if (!folder_length)
        return 0;
    if (__atomic_add_fetch(&counted_looks, 1, __ATOMIC_SEQ_CST) != fault_at || fault_kind != NO_CLOCK)
        return 0;
    report("hit", call, NULL);
    errno = EINVAL;
    return 1;
}

int clock_gettime(clockid_t clock, struct timespec *found)
{
    int of_day = clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE;
    if (of_day && look_fails("clock_gettime"))
        return -1;
    int result = (int)syscall(SYS_clock_gettime, clock, found);
    if (result == 0 && of_day)
        found->tv_sec += jump();
    return result;
}

int gettimeofday(struct timeval *restrict found, void *restrict zone)
{
    if (look_fails("gettimeofday"))
        return -1;
    int result = (int)syscall(SYS_gettimeofday, found, zone);
    if (result == 0)
        found->tv_sec += jump();
    return result;
}

time_t time(time_t *found)
{
    struct timespec now;
    if (clock_gettime(CLOCK_REALTIME, &now))
        return -1;
    if (found)
        *found = now.tv_sec;
    return now.tv_sec;
}
