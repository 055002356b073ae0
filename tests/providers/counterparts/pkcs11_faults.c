/* A PKCS#11 module in front of another one (REAL, a path), for tests: it writes down which functions are called, and fails
 * as it is told. Each copy of it keeps its own books, in the folder that it lies in:
 *
 *   calls   one name a line: Initialize, OpenSession, Login, …
 *   fault   "NAME WHAT COUNT": the next COUNT calls of NAME come to WHAT, which is
 *             rv=0xA0       that return value, and nothing is asked of the real module
 *             wait=8000     so many milliseconds, then the real call
 *             flags=0x20000 of GetTokenInfo: these flags besides the real ones
 *             lost          every session with the token is closed, then the real call
 *             iv            of EncryptInit: another IV than the caller's, written back to the caller
 *             flip          of Encrypt and Decrypt: what they give with one bit wrong
 *
 * The real module's functions are called through its list, by their places in CK_FUNCTION_LIST, which PKCS#11 2.0 to 2.40
 * have in common; every argument is a word. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef unsigned long word;
typedef word (*function)(word, word, word, word, word);

enum { FUNCTIONS = 68, OK = 0, GENERAL_ERROR = 5 };
struct list {
    unsigned char major, minor;
    function of[FUNCTIONS];
};
struct mechanism {
    word type;
    void *parameter;
    word bytes;
};
struct gcm {
    unsigned char *iv;
    word iv_bytes;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct list real, ours;

/* The path of a file beside this module. */
static void beside(char path[4096], const char *name) {
    Dl_info info;
    char *slash;
    path[0] = 0;
    if (dladdr((void *)&lock, &info) && (slash = strrchr(info.dli_fname, '/')))
        snprintf(path, 4096, "%.*s/%s", (int)(slash - info.dli_fname), info.dli_fname, name);
}

/* Writes the call down, and what it is to come to, if to anything. */
static int told(const char *name, char what[64]) {
    char path[4096], wanted[64];
    int count = 0, found = 0;
    FILE *file;
    pthread_mutex_lock(&lock);
    beside(path, "calls");
    if ((file = fopen(path, "a"))) {
        fprintf(file, "%s\n", name);
        fclose(file);
    }
    beside(path, "fault");
    if ((file = fopen(path, "r"))) {
        found = fscanf(file, "%63s %63s %d", wanted, what, &count) == 3 && count > 0 && !strcmp(wanted, name);
        fclose(file);
    }
    if (found && (file = fopen(path, "w"))) {
        fprintf(file, "%s %s %d\n", wanted, what, count - 1);
        fclose(file);
    }
    pthread_mutex_unlock(&lock);
    return found;
}

static word call(const char *name, int place, word a, word b, word c, word d, word e) {
    char what[64] = "";
    word result;
    if (!told(name, what))
        return real.of[place](a, b, c, d, e);
    if (!strncmp(what, "rv=", 3))
        return strtoul(what + 3, NULL, 0);
    if (!strncmp(what, "wait=", 5))
        usleep(1000 * strtoul(what + 5, NULL, 0));
    if (!strcmp(what, "lost")) {
        word info[4];
        if (real.of[15](a, (word)info, 0, 0, 0) == OK) /* C_GetSessionInfo: the slot first */
            real.of[14](info[0], 0, 0, 0, 0);          /* C_CloseAllSessions */
    }
    if (!strcmp(what, "iv"))
        memset(((struct gcm *)((struct mechanism *)b)->parameter)->iv, 7, 12);
    result = real.of[place](a, b, c, d, e);
    if (!strncmp(what, "flags=", 6) && result == OK)
        *(word *)(b + 96) |= strtoul(what + 6, NULL, 0); /* behind label, manufacturer, model and serial number */
    if (!strcmp(what, "flip") && result == OK && d)
        *(unsigned char *)d ^= 1;
    return result;
}

#define FRONT(name, place) \
    static word name(word a, word b, word c, word d, word e) { return call(#name, place, a, b, c, d, e); }
FRONT(Initialize, 0)
FRONT(Finalize, 1)
FRONT(GetSlotList, 4)
FRONT(GetTokenInfo, 6)
FRONT(OpenSession, 12)
FRONT(CloseSession, 13)
FRONT(Login, 18)
FRONT(Logout, 19)
FRONT(GetAttributeValue, 24)
FRONT(FindObjectsInit, 26)
FRONT(EncryptInit, 29)
FRONT(Encrypt, 30)
FRONT(DecryptInit, 33)
FRONT(Decrypt, 34)

word C_GetFunctionList(struct list **list) {
    void *library = dlopen(REAL, RTLD_NOW | RTLD_LOCAL);
    word (*get)(struct list **) = library ? (word (*)(struct list **))dlsym(library, "C_GetFunctionList") : NULL;
    struct list *theirs;
    if (!get || get(&theirs) != OK)
        return GENERAL_ERROR;
    real = *theirs;
    ours = real;
    ours.of[0] = Initialize;
    ours.of[1] = Finalize;
    ours.of[4] = GetSlotList;
    ours.of[6] = GetTokenInfo;
    ours.of[12] = OpenSession;
    ours.of[13] = CloseSession;
    ours.of[18] = Login;
    ours.of[19] = Logout;
    ours.of[24] = GetAttributeValue;
    ours.of[26] = FindObjectsInit;
    ours.of[29] = EncryptInit;
    ours.of[30] = Encrypt;
    ours.of[33] = DecryptInit;
    ours.of[34] = Decrypt;
    *list = &ours;
    return OK;
}
