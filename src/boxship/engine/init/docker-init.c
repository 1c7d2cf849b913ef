/* The first process of a container with --init: passes signals on, takes zombies away, ends as its child ended.
 *
 * Called as "docker-init -- COMMAND [ARG...]". Linux system calls only, no library: scripts/build-init makes from it the
 * programs beside this file, which are what is run. Signals stay blocked and are taken one by one, so there are no
 * handlers and nothing can be missed between two system calls.
 */
#include <asm/unistd.h>

typedef unsigned long word;

enum { EINTR = 4, E2BIG = 7, ENOEXEC = 8, EACCES = 13, ENOENT = 2, ENOTDIR = 20 };
enum { SIGILL = 4, SIGTRAP = 5, SIGABRT = 6, SIGBUS = 7, SIGFPE = 8, SIGSEGV = 11, SIGCHLD = 17, SIGTTIN = 21, SIGTTOU = 22, SIGSYS = 31 };
enum { SIG_SETMASK = 2, WNOHANG = 1, TIOCSPGRP = 0x5410 };

#define BIT(number) (1UL << ((number) - 1))
#define SET_BYTES 8 /* of the kernel's sigset_t */

struct kernel_sigaction {
    word handler, flags, restorer, mask; /* without restorer where the kernel has none; all but handler is 0 here */
};

#if defined(__x86_64__)
static long call(long number, word a, word b, word c, word d)
{
    register word r10 __asm__("r10") = d;
    long result;
    __asm__ volatile("syscall" : "=a"(result) : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10) : "rcx", "r11", "memory");
    return result;
}
__asm__(".globl _start\n_start:\n  xor %ebp, %ebp\n  mov %rsp, %rdi\n  and $-16, %rsp\n  call begin\n");
#elif defined(__aarch64__)
static long call(long number, word a, word b, word c, word d)
{
    register long x8 __asm__("x8") = number;
    register word x0 __asm__("x0") = a;
    register word x1 __asm__("x1") = b;
    register word x2 __asm__("x2") = c;
    register word x3 __asm__("x3") = d;
    __asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3) : "memory");
    return (long)x0;
}
__asm__(".globl _start\n_start:\n  mov x29, #0\n  mov x0, sp\n  bl begin\n");
#else
#error "no system calls are written down for this machine"
#endif

/* The compiler may ask for these two, whatever it is told. */
void *memset(void *target, int byte, word size)
{
    for (volatile char *at = target; size--; at++)
        *at = (char)byte;
    return target;
}

void *memcpy(void *target, const void *source, word size)
{
    const char *from = source;
    for (volatile char *at = target; size--; at++)
        *at = *from++;
    return target;
}

static word length(const char *text)
{
    word size = 0;
    while (text[size])
        size++;
    return size;
}

static void say(const char *text)
{
    call(__NR_write, 2, (word)text, length(text), 0);
}

static void end(int code)
{
    for (;;)
        call(__NR_exit_group, (word)code, 0, 0, 0);
}

static int has_slash(const char *text)
{
    for (; *text; text++)
        if (*text == '/')
            return 1;
    return 0;
}

static const char *path_of(char **env)
{
    for (; *env; env++) {
        const char *entry = *env;
        if (entry[0] == 'P' && entry[1] == 'A' && entry[2] == 'T' && entry[3] == 'H' && entry[4] == '=')
            return entry + 5;
    }
    return "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
}

/* Become the file, by the shell if it is a script that does not say what reads it; return what went wrong. */
static long execute(const char *file, char **args, char **env)
{
    long result = call(__NR_execve, (word)file, (word)args, (word)env, 0);
    if (result == -ENOEXEC) {
        char *shell_args[256];
        word count = 0;
        while (args[count] && count < 253)
            count++;
        if (args[count])
            return -E2BIG;
        shell_args[0] = "/bin/sh";
        shell_args[1] = (char *)file;
        for (word i = 1; i <= count; i++)
            shell_args[i + 1] = args[i];
        shell_args[count ? count + 1 : 2] = 0;
        result = call(__NR_execve, (word)shell_args[0], (word)shell_args, (word)env, 0);
    }
    return result;
}

/* Become the program, looked for in PATH as execvp(3) does; return what went wrong. */
static long search(char **args, char **env)
{
    char candidate[4096];
    const char *name = args[0], *path = path_of(env);
    word size = length(name);
    long failure = -ENOENT;
    if (!size)
        return failure;
    if (has_slash(name))
        return execute(name, args, env);
    for (;;) {
        word used = 0;
        while (path[used] && path[used] != ':')
            used++;
        if (used + size + 2 <= sizeof candidate) {
            memcpy(candidate, path, used);
            if (used)
                candidate[used++] = '/'; /* an empty entry is the working directory */
            memcpy(candidate + used, name, size + 1);
            long result = execute(candidate, args, env);
            if (result == -EACCES)
                failure = result; /* told only if no other directory has it */
            else if (result != -ENOENT && result != -ENOTDIR)
                return result;
        }
        while (*path && *path != ':')
            path++;
        if (!*path++)
            return failure;
    }
}

static void run_child(char **args, char **env, word mask)
{
    struct kernel_sigaction standard = {0, 0, 0, 0};
    call(__NR_setpgid, 0, 0, 0, 0);
    int group = (int)call(__NR_getpid, 0, 0, 0, 0);
    call(__NR_ioctl, 0, TIOCSPGRP, (word)&group, 0); /* fails where 0 is no terminal */
    call(__NR_rt_sigaction, SIGTTIN, (word)&standard, 0, SET_BYTES);
    call(__NR_rt_sigaction, SIGTTOU, (word)&standard, 0, SET_BYTES);
    call(__NR_rt_sigprocmask, SIG_SETMASK, (word)&mask, 0, SET_BYTES);
    long failure = search(args, env);
    say("docker-init: exec ");
    say(args[0]);
    say(failure == -ENOENT || failure == -ENOTDIR ? " failed: No such file or directory\n"
        : failure == -EACCES                      ? " failed: Permission denied\n"
                                                  : " failed: cannot be executed\n");
    end(failure == -ENOENT || failure == -ENOTDIR ? 127 : 126);
}

void begin(word *stack)
{
    int count = (int)stack[0];
    char **args = (char **)(stack + 1), **env = args + count + 1;
    if (count > 1 && args[1][0] == '-' && args[1][1] == '-' && !args[1][2])
        args++, count--;
    if (count < 2) {
        say("usage: docker-init -- COMMAND [ARG...]\n");
        end(1);
    }
    args++;
    /* A fault of ours must end us, not wait in a queue. */
    word mask = 0, blocked = ~(BIT(SIGFPE) | BIT(SIGILL) | BIT(SIGSEGV) | BIT(SIGBUS) | BIT(SIGABRT) | BIT(SIGTRAP) |
                               BIT(SIGSYS) | BIT(SIGTTIN) | BIT(SIGTTOU));
    struct kernel_sigaction ignored = {1, 0, 0, 0};
    call(__NR_rt_sigprocmask, SIG_SETMASK, (word)&blocked, (word)&mask, SET_BYTES);
    call(__NR_rt_sigaction, SIGTTIN, (word)&ignored, 0, SET_BYTES);
    call(__NR_rt_sigaction, SIGTTOU, (word)&ignored, 0, SET_BYTES);
    long child = call(__NR_clone, SIGCHLD, 0, 0, 0); /* as fork(2) */
    if (child < 0) {
        say("docker-init: fork failed\n");
        end(1);
    }
    if (child == 0)
        run_child(args, env, mask);
    for (;;) {
        long number = call(__NR_rt_sigtimedwait, (word)&blocked, 0, 0, SET_BYTES);
        if (number > 0 && number != SIGCHLD)
            call(__NR_kill, (word)child, (word)number, 0, 0);
        if (number != SIGCHLD)
            continue;
        for (;;) {
            int status;
            long ended = call(__NR_wait4, (word)-1L, (word)&status, WNOHANG, 0);
            if (ended <= 0 && ended != -EINTR)
                break;
            if (ended == child)
                end(status & 0x7f ? 128 + (status & 0x7f) : (status >> 8) & 0xff);
        }
    }
}
