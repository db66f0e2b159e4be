/* Preloaded into Airflow's processes (LD_PRELOAD), it adds an offset to the time of day, and to nothing else.

The offset, in nanoseconds, is the content of the file that SHIFTED_CLOCK names; whoever writes to that file moves
the time of all processes in the same instant. Monotonic clocks, sleeps and file times stay real. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <semaphore.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define SECOND 1000000000LL

static volatile int64_t *shift;

__attribute__((constructor)) static void open_shift(void) {
  const char *path = getenv("SHIFTED_CLOCK");
  int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
  void *map = file < 0 ? MAP_FAILED : mmap(NULL, sizeof *shift, PROT_READ, MAP_SHARED, file, 0);
  if (map == MAP_FAILED) abort(); /* real time without a word would be a wrong test */
  shift = map;
  close(file);
}

static void move(struct timespec *at, int64_t by) {
  int64_t sum = at->tv_sec * SECOND + at->tv_nsec + by;
  at->tv_sec = sum / SECOND;
  at->tv_nsec = sum % SECOND;
}

int clock_gettime(clockid_t clock, struct timespec *now) {
  int failed = syscall(SYS_clock_gettime, clock, now);
  if (!failed && shift && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) move(now, *shift);
  return failed;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
  struct timespec found;
  (void)zone;
  clock_gettime(CLOCK_REALTIME, &found);
  now->tv_sec = found.tv_sec;
  now->tv_usec = found.tv_nsec / 1000;
  return 0;
}

time_t time(time_t *at) {
  struct timespec found;
  clock_gettime(CLOCK_REALTIME, &found);
  if (at) *at = found.tv_sec;
  return found.tv_sec;
}

/* The kernel waits until a real time: what was computed from ours is moved back. */
int sem_timedwait(sem_t *restrict semaphore, const struct timespec *restrict until) {
  struct timespec real = *until;
  if (shift) move(&real, -*shift);
  return sem_clockwait(semaphore, CLOCK_REALTIME, &real);
}
