/* What a power cut would leave of a folder.

   The page cache outlives kill -9 and does not outlive a power cut. Preloaded into a process, this notes in a second folder
   whatever the process has made durable: the content of a file at each fsync of it, the names in a folder at each fsync of the
   folder, where a link stands with its target. Everything else is on its way to the disk, and the cut (power.py) may lose any part of it. Nothing is promised but
   what POSIX promises: neither that a synced file has a name, nor that one rename goes before another.

   POWERCUT_TREE   the folder; POWERCUT_SHADOW the other one
   POWERCUT_LIES   the disk says that it has synced, and has not
   POWERCUT_AT     die by SIGKILL before this durable step (fsync, rename, unlink), counted from 1 ...
   POWERCUT_ONLY   ... among those on paths that hold one of these words, separated by colons */

#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define KEY_SIZE 48
#define PATH_SIZE (PATH_MAX + 64)

static char tree[PATH_MAX], shadow[PATH_MAX];
static const char *only;
static int lies;
static atomic_long steps_left;

__attribute__((constructor)) static void begin(void) {
    const char *at = getenv("POWERCUT_AT");
    if (getenv("POWERCUT_TREE") && getenv("POWERCUT_SHADOW")) {
        snprintf(tree, sizeof tree, "%s", getenv("POWERCUT_TREE"));
        snprintf(shadow, sizeof shadow, "%s", getenv("POWERCUT_SHADOW"));
    }
    only = getenv("POWERCUT_ONLY");
    lies = getenv("POWERCUT_LIES") != NULL;
    steps_left = at ? atol(at) : 0;
}

/* Who a file is, for as long as there are files: the number of an inode is given out again, with another time of birth. */
static int key_of(int at, const char *name, int flags, char key[KEY_SIZE], mode_t *mode) {
    struct statx it;
    if (statx(at, name, flags | AT_SYMLINK_NOFOLLOW, STATX_INO | STATX_TYPE | STATX_BTIME, &it))
        return -1;
    snprintf(key, KEY_SIZE, "%llu-%lld.%u", (unsigned long long)it.stx_ino, (long long)it.stx_btime.tv_sec,
             it.stx_btime.tv_nsec);
    *mode = it.stx_mode;
    return 0;
}

static FILE *begin_note(char path[PATH_SIZE], const char *where) {
    snprintf(path, PATH_SIZE, "%s/new.%ld", where, syscall(SYS_gettid));
    return fopen(path, "we");
}

/* In one step: whoever is killed here has not synced. */
static int end_note(FILE *note, const char *path, const char *where, const char *kind, const char *key) {
    char target[PATH_SIZE];
    snprintf(target, sizeof target, "%s/%s/%s", where, kind, key);
    return fclose(note) || syscall(SYS_rename, path, target) ? -1 : 0;
}

static int note_file(int file, const char *where, const char *key) {
    char path[PATH_SIZE], buffer[1 << 16];
    off_t done = 0;
    ssize_t got;
    FILE *note = begin_note(path, where);
    if (!note)
        return -1;
    while ((got = pread(file, buffer, sizeof buffer, done)) > 0 && fwrite(buffer, 1, got, note) == (size_t)got)
        done += got;
    return end_note(note, path, where, "files", key) || got ? -1 : 0;
}

static int note_folder(int folder, const char *where, const char *key) {
    char path[PATH_SIZE], target[PATH_MAX], entry_key[KEY_SIZE];
    struct dirent *entry;
    ssize_t length;
    mode_t mode;
    int own = openat(folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC); /* with a position of its own */
    DIR *names = own < 0 ? NULL : fdopendir(own);
    FILE *note = names ? begin_note(path, where) : NULL;
    if (!note)
        return -1;
    while ((entry = readdir(names))) {
        if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, "..") || key_of(folder, entry->d_name, 0, entry_key, &mode))
            continue;
        if (S_ISDIR(mode) || S_ISREG(mode))
            fprintf(note, "%c %o %s %s\n", S_ISDIR(mode) ? 'd' : 'f', mode & 07777, entry_key, entry->d_name);
        else if (S_ISLNK(mode) && (length = readlinkat(folder, entry->d_name, target, sizeof target - 1)) > 0)
            fprintf(note, "l 777 %.*s %s\n", (int)length, target, entry->d_name);
    }
    closedir(names);
    return end_note(note, path, where, "folders", key);
}

static int note(int descriptor, const char *where) {
    char key[KEY_SIZE], path[64];
    mode_t mode;
    int readable = descriptor, result;
    if (key_of(descriptor, "", AT_EMPTY_PATH, key, &mode))
        return -1;
    if (S_ISDIR(mode))
        return note_folder(descriptor, where, key);
    if ((fcntl(descriptor, F_GETFL) & O_ACCMODE) == O_WRONLY) { /* only then: a close would end the fcntl locks of SQLite */
        snprintf(path, sizeof path, "/proc/self/fd/%d", descriptor);
        readable = open(path, O_RDONLY | O_CLOEXEC);
    }
    result = note_file(readable, where, key);
    if (readable != descriptor)
        close(readable);
    return result;
}

static int concerns(const char *path) {
    const char *word = only;
    size_t length;
    for (; word && *word; word += length + (word[length] == ':')) {
        length = strcspn(word, ":");
        if (memmem(path, strlen(path), word, length))
            return 1;
    }
    return !only;
}

static void step(const char *path) {
    if (steps_left > 0 && concerns(path) && atomic_fetch_sub(&steps_left, 1) == 1) {
        kill(getpid(), SIGKILL);
        for (;;)
            pause();
    }
}

static int sync_one(int descriptor, const char *real) {
    char link[64], path[PATH_MAX] = "";
    int (*original)(int) = (int (*)(int))dlsym(RTLD_NEXT, real);
    size_t length = strlen(tree);
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    if (!length || readlink(link, path, sizeof path - 1) < 0 || strncmp(path, tree, length))
        return original(descriptor);
    step(path);
    if (lies)
        return 0;
    if (note(descriptor, shadow)) { /* a witness that sees less than there is would find faults that are none */
        fprintf(stderr, "powercut: %s cannot be noted: %s\n", path, strerror(errno));
        abort();
    }
    return 0;
}

int fsync(int descriptor) { return sync_one(descriptor, "fsync"); }

int fdatasync(int descriptor) { return sync_one(descriptor, "fdatasync"); }

int rename(const char *from, const char *to) {
    step(to);
    return ((int (*)(const char *, const char *))dlsym(RTLD_NEXT, "rename"))(from, to);
}

int unlink(const char *path) {
    step(path);
    return ((int (*)(const char *))dlsym(RTLD_NEXT, "unlink"))(path);
}

/* For the harness: everything below ``path`` is durable now. */
int powercut_settle(const char *path, const char *where) {
    struct dirent *entry;
    char below[PATH_SIZE];
    int descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW), result = descriptor < 0 ? -1 : note(descriptor, where);
    DIR *names;
    if (descriptor >= 0)
        close(descriptor);
    if (result || !(names = opendir(path)))
        return result && errno == ELOOP ? 0 : result;
    while (!result && (entry = readdir(names))) {
        if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, ".."))
            continue;
        snprintf(below, sizeof below, "%s/%s", path, entry->d_name);
        if (entry->d_type == DT_DIR || entry->d_type == DT_REG)
            result = powercut_settle(below, where);
    }
    closedir(names);
    return result;
}

int powercut_key(const char *path, char key[KEY_SIZE]) {
    mode_t mode;
    return key_of(AT_FDCWD, path, 0, key, &mode);
}
