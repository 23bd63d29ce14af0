/* A machine with the GPUs that FAKE_GPUS describes, for whoever loads
 * libnvidia-ml.so.1: "name:total:free;name:total:free", bytes. With FAKE_GPUS_FILE
 * that text is read from a file each time, so that others can change it. Only what
 * dspex.bus.gpu calls is here. A GPU named "broken" cannot be read. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { OK = 0, INVALID_ARGUMENT = 2, DRIVER_NOT_LOADED = 9, GPU_IS_LOST = 15 };

struct memory { unsigned long long total, free, used; };
struct gpu { char name[64]; unsigned long long total, free; };

static const char *described(char *text, size_t size) {
  const char *path = getenv("FAKE_GPUS_FILE");
  FILE *file = path ? fopen(path, "r") : NULL;
  if (!file) return getenv("FAKE_GPUS");
  text[fread(text, 1, size - 1, file)] = 0;
  fclose(file);
  return text;
}

static int read_gpus(struct gpu *gpus, int most) {
  char text[4096];
  const char *rest = described(text, sizeof text);
  int count = 0;
  while (rest && *rest && count < most) {
    struct gpu *gpu = &gpus[count];
    if (sscanf(rest, "%63[^:]:%llu:%llu", gpu->name, &gpu->total, &gpu->free) != 3)
      break;
    count++;
    rest = strchr(rest, ';');
    if (rest) rest++;
  }
  return count;
}

static int find(void *handle, struct gpu *found) {
  struct gpu gpus[16];
  long index = (long)handle - 1;
  if (index < 0 || index >= read_gpus(gpus, 16)) return INVALID_ARGUMENT;
  *found = gpus[index];
  return strcmp(found->name, "broken") == 0 ? GPU_IS_LOST : OK;
}

int nvmlInitWithFlags(unsigned flags) {
  (void)flags;
  return getenv("FAKE_GPUS") || getenv("FAKE_GPUS_FILE") ? OK : DRIVER_NOT_LOADED;
}

int nvmlDeviceGetCount_v2(unsigned *count) {
  struct gpu gpus[16];
  *count = (unsigned)read_gpus(gpus, 16);
  return OK;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **handle) {
  *handle = (void *)(long)(index + 1);
  return OK;
}

int nvmlDeviceGetMemoryInfo(void *handle, struct memory *memory) {
  struct gpu gpu;
  int status = find(handle, &gpu);
  if (status == OK)
    *memory = (struct memory){gpu.total, gpu.free, gpu.total - gpu.free};
  return status;
}

int nvmlDeviceGetName(void *handle, char *name, unsigned size) {
  struct gpu gpu;
  int status = find(handle, &gpu);
  if (status == OK) snprintf(name, size, "%s", gpu.name);
  return status;
}

int nvmlDeviceGetUUID(void *handle, char *uuid, unsigned size) {
  struct gpu gpu;
  int status = find(handle, &gpu);
  if (status == OK) snprintf(uuid, size, "GPU-%04ld", (long)handle - 1);
  return status;
}

const char *nvmlErrorString(int status) {
  return status == DRIVER_NOT_LOADED ? "Driver Not Loaded" : "Error";
}
