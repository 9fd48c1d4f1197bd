"""Words that may pass from a header into the store: everything else is left out.

Free text can hold a name anywhere, so it is not searched for names; only words of these lists
survive (DICOM PS3.15 E.3.6, "Clean Descriptors", leaves the means open).
"""

from __future__ import annotations

import re

# Words in Manufacturer -> the maker; the first entry that is found decides.
MAKERS = {
    "agfa": "Agfa",
    "bruker": "Bruker",
    "canon": "Canon",
    "toshiba": "Canon",
    "carestream": "Carestream",
    "kodak": "Carestream",
    "esaote": "Esaote",
    "fuji": "Fujifilm",
    "fujifilm": "Fujifilm",
    "ge": "GE",
    "hitachi": "Hitachi",
    "hologic": "Hologic",
    "lorad": "Hologic",
    "hyperfine": "Hyperfine",
    "konica": "Konica Minolta",
    "mindray": "Mindray",
    "neusoft": "Neusoft",
    "philips": "Philips",
    "marconi": "Philips",
    "picker": "Philips",
    "samsung": "Samsung",
    "shimadzu": "Shimadzu",
    "siemens": "Siemens",
    "cti": "Siemens",
    "uih": "United Imaging",
    "united imaging": "United Imaging",
    "varian": "Varian",
}
OTHER_MAKER = "other"

# Names of scanners, of the makers above.
_MODEL_WORDS = """
achieva aera affiniti allegra altea ambition amira aplio aquilion artis avanto axial axiom
biograph brightspeed brilliance brivo cardinal cios cirrus class confidence creator cyclone dart
definition delight digital discovery drive dstream dx echelon edge elan elite elition emotion
encore ep epiq era espree essenta evolution excel excite exel expert explorer fit flash flexi
flow force free fusion galan gemini genesis giotto go harmony hdxt hispeed ict incisive infinia
infinix ingenia ingenuity innova insight inspiration integris intera iq ix jedi lightspeed lite
logiq lumina luminos lx magic magnetom mammomat max mct mobile mobilett mr multiva mx mysono
naeotom nova nxt oasis one open optima origin pace panorama perception performance
performix philips plus portal precedence precision premier prestige prime primera prisma
prismafit pro proclarity profile quantum rad revolution rotograph rt scenaria scope select
selenia senographe sensation signa sky skyra sola somatom sonata spectra spectral spirit sprint
st star supria symphony system tim titan trio triotim truepoint tx ultra upgrade vantage
vb vct verio verza vida vision vista viva vivid volume voyager vue wave xa xperience xr xt yio
zoom
"""

# Words of protocol and series names, by what they say of the image.
_DESCRIPTION_WORDS = """
2d 3d 4d abd abdomen abdomenpelvis acq adc adrenal angio angiogram ankle aorta ap arterial asl
ax axial b0 b1000 b800 blade bold bone brain bravo breast breathhold bssfp c+ c- cardiac carotid
cc cervical chest cine cisp ciss clear contrast cor coronal ct cta cube delayed diffusion dir
dixon dti dual dwi dynamic early ecg echo elbow ep ep2d epi equilibrium fast fat fatsat fb femur
fgre field fieldmap fiesta flair flash fmri foot fov frontal fs fse fspgr gad gd gradient gre
hand hardi haste head heart hip hires hr iac in inphase inversion iso isotropic kidney kidneys
knee lat late lateral lava left liver localizer lumbar lung lungs mag magnitude map mdc mean
mediastinum mip mlo moco mp2rage mpr mprage mr mra mrcp mri mrv multi nac native neck non
oblique opp opposed orbit orbits out pa pancreas pc pd pdw pelvis perf perfusion pet phase
pituitary plain portal post postcontrast pre precontrast prone propeller prostate radial recon
ref resolve rest resting right rs sag sagittal scan scout se sense sequence series shoulder
sinus skull smart soft space spair spc spgr spin spine spir spiral spleen ssfp standard stir
supine survey swan sweep swi t1 t1w t1wi t2 t2star t2w t2wi tfe thick thin thoracic thorax
thrive tilt tirm tissue tof tra trace transverse trufi tse turbo twist upper uterus venous vibe
view vista vol volume water whole wholebody with without wo wrist
"""

# Defined Terms of Body Part Examined (DICOM PS3.16 Annex L, table L-1).
_BODY_PARTS = """
ABDOMEN ABDOMENPELVIS ADRENAL ANKLE AORTA ARM AXILLA BACK BLADDER BRAIN BREAST BRONCHUS BUTTOCK
CALCANEUS CALF CAROTID CEREBELLUM CERVIX CHEEK CHEST CHESTABDOMEN CHESTABDPELVIS CIRCLEOFWILLIS
CLAVICLE COCCYX COLON CORNEA CORONARYARTERY CSPINE CTSPINE DUODENUM EAR ELBOW ESOPHAGUS
EXTREMITY EYE EYELID FACE FEMUR FINGER FOOT GALLBLADDER HAND HEAD HEADNECK HEART HIP HUMERUS IAC
ILEUM ILIUM JAW JEJUNUM KIDNEY KNEE LARYNX LEG LIVER LSPINE LSSPINE LUNG MAXILLA MEDIASTINUM
MOUTH NECK NECKCHEST NECKCHESTABDOMEN NECKCHESTABDPELV NOSE ORBIT OVARY PANCREAS PAROTID PATELLA
PELVIS PENIS PHARYNX PROSTATE RECTUM RIB SCALP SCAPULA SCLERA SCROTUM SHOULDER SKULL SPINE
SPLEEN SSPINE STERNUM STOMACH SUBMANDIBULAR TESTIS THIGH THUMB THYMUS THYROID TLSPINE TMJ TOE
TONGUE TRACHEA TSPINE ULNA URETER URETHRA UTERUS VAGINA VULVA WHOLEBODY WRIST ZYGOMA
"""

_MODEL_CODE = re.compile(r"[a-z]{0,3}\d{1,3}(\.\d)?[a-z]?")
MODEL_WORDS = frozenset(_MODEL_WORDS.split())
DESCRIPTION_WORDS = frozenset(_DESCRIPTION_WORDS.split())
BODY_PARTS = frozenset(_BODY_PARTS.split())


def maker(text: str) -> str:
    """The maker that a Manufacturer names, "other" for one not listed, "" for none."""
    words = f" {' '.join(re.findall('[a-z]+', text.lower()))} "
    found = (name for key, name in MAKERS.items() if f" {key} " in words)
    return next(found, OTHER_MAKER) if words.strip() else ""


def model(text: str) -> str:
    """The known words of a Manufacturer's Model Name and short codes with a number in them.

    "DISCOVERY MR750" stays as it is; of "Achieva of Dr. Doe 4711234" "Achieva" stays.
    """
    kept = [w for w in re.split(r"[\s_/,;()-]+", text) if _known_model(w.lower())]
    return " ".join(kept)


def _known_model(word: str) -> bool:
    if _MODEL_CODE.fullmatch(word):
        return True
    letters = word.rstrip("0123456789")
    return letters in MODEL_WORDS and len(word) - len(letters) <= 3


def description(text: str) -> str:
    """The known words of a description, in lower case, in order, each once."""
    words = re.split(r"[^a-z0-9+-]+|_", text.lower())
    parts = [part for word in words for part in _apart(word) if part in DESCRIPTION_WORDS]
    return " ".join(dict.fromkeys(parts))


def _apart(word: str) -> list[str]:
    return [word] if word in DESCRIPTION_WORDS else word.split("-")


def body_part(text: str) -> str:
    """A Defined Term of Body Part Examined, "" for anything else."""
    term = re.sub(r"[\s_-]", "", text.upper())
    return term if term in BODY_PARTS else ""
